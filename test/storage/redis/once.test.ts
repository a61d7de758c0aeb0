import { Redis } from 'ioredis'
import t from 'tap'
import { deliverThreeTimes } from '../../helpers/deliveries.js'
import { startRedis } from '../../helpers/redis-server.js'

const ACTIVITIES = Number(process.env.ONCE_ACTIVITIES ?? 60)

const cases = ['parallel', 'queue', 'reject', 'replace'].flatMap((concurrency) => ['onSend', 'onResponse'].map((flush) => ({ concurrency, flush })))

for (const { concurrency, flush } of cases) {
  t.test(`${ACTIVITIES} activities, each delivered three times to 2 processes that are killed: each is done once (${concurrency}, ${flush})`, async (t) => {
    const { url } = await startRedis(t)
    const client = new Redis(url)
    t.teardown(() => client.disconnect())
    await deliverThreeTimes(t, { storage: url, processes: 2, activities: ACTIVITIES, kills: ACTIVITIES / 15, concurrency, flush },
      async (key) => JSON.parse(await client.get(`botas:${key}`) ?? '{}'))
  })
}
