import t from 'tap'
import { ServerClock } from '../../../lib/storage/driver/server-clock.js'

/** What a server says whose clock is so far from ours: whole seconds. */
function tell (clock: ServerClock, offset: number): void {
  clock.heard(Math.floor((Date.now() + offset) / 1000) * 1000, performance.now())
}

t.test('it is the clock of this machine, as far as the answers of the server allow it', async (t) => {
  const clock = new ServerClock()
  t.ok(Math.abs(clock.now() - Date.now()) < 50)
  tell(clock, 0)
  t.ok(Math.abs(clock.now() - Date.now()) < 50)
  for (const offset of [3_600_000, -3_600_000, 0]) {
    tell(clock, offset)
    t.ok(Math.abs(clock.now() - Date.now() - offset) <= 1050, 'also where one of them was set')
  }
})
