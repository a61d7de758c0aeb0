import { Redis } from 'ioredis'
import t from 'tap'
import { deliverThreeTimes } from '../../helpers/deliveries.js'
import { startRedis } from '../../helpers/redis-server.js'

const ACTIVITIES = Number(process.env.ONCE_ACTIVITIES ?? 60)

for (const concurrency of ['parallel', 'queue']) {
  t.test(`${ACTIVITIES} activities, each delivered three times to 2 processes that are killed: each is done once (${concurrency})`, async (t) => {
    const { url } = await startRedis(t)
    const client = new Redis(url)
    t.teardown(() => client.disconnect())
    await deliverThreeTimes(t, { storage: url, processes: 2, activities: ACTIVITIES, kills: ACTIVITIES / 15, concurrency },
      async (key) => JSON.parse(await client.get(`botas:${key}`) ?? '{}'))
  })
}
