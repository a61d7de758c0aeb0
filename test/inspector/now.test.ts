import t from 'tap'
import { now } from '../../lib/inspector/now.js'

t.test('time goes on evenly, and follows the clock where that was set, or the computer slept', async (t) => {
  const { now: clock } = Date
  t.teardown(() => { Date.now = clock })
  const before = now()
  t.ok(Math.abs(before - Date.now()) < 1000)
  t.ok(now() >= before)
  Date.now = () => clock() + 3_600_000
  t.ok(Math.abs(now() - Date.now()) < 1000)
  t.ok(now() - before >= 3_599_000)
})
