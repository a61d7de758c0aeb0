import t from 'tap'
import { deliverThreeTimes } from '../../helpers/deliveries.js'

const ACTIVITIES = Number(process.env.ONCE_ACTIVITIES ?? 60)

for (const concurrency of ['parallel', 'queue', 'reject', 'replace']) {
  t.test(`${ACTIVITIES} activities, each delivered three times: each is done once (${concurrency})`, async (t) => {
    await deliverThreeTimes(t, { storage: 'memory', processes: 1, activities: ACTIVITIES, kills: 0, concurrency })
  })
}
