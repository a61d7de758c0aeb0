import t from 'tap'
import { Line } from '../../../lib/storage/driver/line.js'
import { LOST_LIFETIME } from '../../../lib/storage/place-times.js'

const NOW = 1_000_000
const LATER = NOW + 10_000
const PAST = NOW - 1

/** What becomes of a line where somebody asks for its place. */
function enter (text: string, holder: string, strategy: 'queue' | 'reject' | 'replace' = 'queue') {
  const line = new Line(text, holder, NOW)
  const outcome = line.enter({ holder, origin: holder.slice(0, 2), lease: 30_000, strategy, isReplaceable: strategy === 'replace' })
  return { outcome, text: line.toString() }
}

t.test('who asks first has the place, the others stand in line in the order of their arrival', async (t) => {
  t.strictSame(enter('', 'a-1'), { outcome: 'entered', text: `a-1:${NOW + 30_000}:0` })
  t.strictSame(enter(`b-1:${LATER}:0`, 'a-1'), { outcome: 'waiting', text: `b-1:${LATER}:0;a-1:${NOW + 2000}:0` })
  t.strictSame(enter(`b-1:${LATER}:0;c-1:${LATER}:0;a-1:${LATER}:0`, 'a-1').outcome, 'waiting')
  t.strictSame(enter(`b-1:${LATER}:0`, 'a-1', 'reject').outcome, 'taken')
  t.strictSame(enter(`a-1:${NOW + 5}:0;b-1:${LATER}:0`, 'a-1'), { outcome: 'entered', text: `a-1:${NOW + 30_000}:0;b-1:${LATER}:0` })
})

t.test('one that waits is written again when half of its time has passed', async (t) => {
  for (const [left, expected] of [[1500, 1500], [900, 2000]] as const) {
    t.equal(enter(`b-1:${LATER}:0;a-1:${NOW + left}:0`, 'a-1').text, `b-1:${LATER}:0;a-1:${NOW + expected}:0`)
  }
})

t.test('one whose time has passed makes room, and is remembered to have lost its place', async (t) => {
  t.strictSame(enter(`b-1:${PAST}:0`, 'a-1'), { outcome: 'entered', text: `a-1:${NOW + 30_000}:0;b-1:${NOW + LOST_LIFETIME}:2` })
  t.strictSame(enter(`b-1:${PAST}:0;c-1:${PAST}:0;d-1:${LATER}:0`, 'a-1'), {
    outcome: 'waiting', text: `b-1:${PAST}:0;d-1:${LATER}:0;a-1:${NOW + 2000}:0`
  })
  t.equal(new Line(`b-1:${PAST}:0`, 'b-1', NOW).isHeldBy('b-1'), true, 'nobody has taken it')
  t.equal(new Line(`b-1:${PAST}:0`, 'a-1', NOW).isHeldBy('a-1'), false)
  t.equal(new Line(`a-1:${LATER}:0;b-1:${LATER}:2`, 'b-1', NOW).isHeldBy('b-1'), false)
  t.equal(new Line(`b-1:${PAST}:2`, 'b-1', NOW).isHeldBy('b-1'), true, 'it was forgotten')
})

t.test('a later turn replaces those that can be replaced, and waits for the others', async (t) => {
  t.strictSame(enter(`b-1:${LATER}:1`, 'a-1', 'replace'), { outcome: 'entered', text: `a-1:${NOW + 30_000}:1;b-1:${NOW + LOST_LIFETIME}:2` })
  t.strictSame(enter(`b-1:${LATER}:0;c-1:${LATER}:1`, 'a-1', 'replace').outcome, 'waiting')
  t.strictSame(enter(`b-1:${LATER}:1;a-1:${LATER}:2`, 'a-1', 'replace').outcome, 'replaced')
})

t.test('of one process only the first turn in line asks: an earlier one has left, a later one has replaced it', async (t) => {
  t.strictSame(enter(`a-1:${LATER}:0`, 'a-2'), { outcome: 'entered', text: `a-2:${NOW + 30_000}:0` })
  t.strictSame(enter(`a-3:${LATER}:1`, 'a-2', 'replace').outcome, 'replaced')
})

t.test('one that asks often is written again when a quarter of its lease has passed, or when it cannot be replaced any more', async (t) => {
  const renewed = (left: number, isReplaceable = true) => {
    const line = new Line(`a-1:${NOW + left}:1`, 'a-1', NOW)
    line.renew({ holder: 'a-1', lease: 1000, isReplaceable })
    return line.toString()
  }
  t.equal(renewed(751), `a-1:${NOW + 751}:1`)
  t.equal(renewed(750), `a-1:${NOW + 1000}:1`)
  t.equal(renewed(999, false), `a-1:${NOW + 1000}:0`)
})

t.test('who leaves is forgotten, and an empty line takes no text', async (t) => {
  const line = new Line(`a-1:${LATER}:0;b-1:${LATER}:0`, 'a-1', NOW)
  line.leave('a-1')
  t.equal(line.toString(), `b-1:${LATER}:0`)
  line.renew({ holder: 'b-1', lease: 5, isReplaceable: true })
  t.equal(line.toString(), `b-1:${NOW + 5}:1`)
  line.leave('b-1')
  t.equal(line.toString(), '')
})
