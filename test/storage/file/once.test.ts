import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { fileName } from '../../../lib/storage/file-name.js'
import { deliverThreeTimes } from '../../helpers/deliveries.js'

const ACTIVITIES = Number(process.env.ONCE_ACTIVITIES ?? 60)

t.test(`${ACTIVITIES} activities, each delivered three times to a process that is killed: each is done once`, async (t) => {
  const directory = t.testdir({})
  await deliverThreeTimes(t, { storage: directory, processes: 1, activities: ACTIVITIES, kills: ACTIVITIES / 15 },
    async (key) => JSON.parse(readFileSync(join(directory, fileName(key)), 'utf8')))
  t.strictSame(readdirSync(directory).filter((name) => name.endsWith('.save')), [], 'nothing is left half done')
})
