import t from 'tap'
import { deliverThreeTimes } from '../../helpers/deliveries.js'
import { testedServers } from '../../helpers/tested-servers.js'

const ACTIVITIES = Number(process.env.ONCE_ACTIVITIES ?? 60)
const Postgres = testedServers.Postgres

for (const concurrency of ['parallel', 'queue', 'reject', 'replace']) {
  for (const flush of ['onSend', 'onResponse']) {
    t.test(`${ACTIVITIES} activities, each delivered three times to 2 processes that are killed: each is done once (${concurrency}, ${flush})`, async (t) => {
      const server = await Postgres(t)
      await server.start()
      await deliverThreeTimes(t, {
        storage: server.urlAt(server.port), processes: 2, activities: ACTIVITIES, kills: ACTIVITIES / 15, concurrency, flush
      })
    })
  }
}
