import fc from 'fast-check'
import t from 'tap'
import type { TurnSummary } from '../../../lib/inspector/inspected-turn.js'
import { pageModule } from '../../helpers/page-module.js'

interface Bar {
  turn: TurnSummary
  x: number
  width: number
  row: number
  marks: Array<{ text: string }>
  phases: Array<{ name: string, x: number, width: number }>
}

const { layout } = await pageModule<{ layout (turns: TurnSummary[], now: number): { width: number, lanes: Array<{ key: string, rows: number, bars: Bar[] }>, pauses: Array<{ x: number, milliseconds: number }> } }>('timeline-layout')

const NOW = 100_000

const turns = fc.array(fc.record({
  key: fc.constantFrom('a', 'b'),
  from: fc.integer({ min: 0, max: 5000 }),
  takes: fc.array(fc.integer({ min: 0, max: 300 }), { minLength: 1, maxLength: 4 }),
  isOpen: fc.boolean(),
  outcome: fc.constantFrom('saved', 'failed', 'replaced', 'replayed'),
  retries: fc.constantFrom(0, 2)
}), { maxLength: 20 }).map((all) => all.map(({ key, from, takes, isOpen, outcome, retries }, index): TurnSummary => {
  const phases = takes.map((_, phase) => ({ name: (['waiting', 'loading', 'handler', 'saving'] as const)[phase] as 'loading', from: from + takes.slice(0, phase).reduce((sum, one) => sum + one, 0) }))
  const to = from + takes.reduce((sum, one) => sum + one, 0)
  return { id: index + 1, via: 'request', identity: { channelId: 'c', botId: 'b' }, keys: [key], from, phases, ...isOpen ? {} : { to }, outcome: isOpen ? 'open' : outcome as 'saved', saved: [], retries, isOverlapped: false, changeCount: 0 }
}))

const beginOf = ({ from }: TurnSummary): number => from
const endOf = ({ to = NOW }: TurnSummary): number => to

t.test('what comes later is further to the right, and what takes longer is no shorter', async (t) => {
  fc.assert(fc.property(turns, (turns) => {
    const { lanes, width } = layout(turns, NOW)
    const bars = lanes.flatMap(({ bars }) => bars)
    t.equal(bars.length, turns.length)
    for (const one of bars) {
      t.ok(one.x >= 0 && one.width >= 0 && one.x + one.width <= width + 1e-6)
      for (const other of bars) {
        if (beginOf(one.turn) < beginOf(other.turn)) t.ok(one.x < other.x)
        if (endOf(one.turn) <= beginOf(other.turn)) t.ok(one.x + one.width <= other.x + 1e-6)
        if (beginOf(one.turn) < endOf(other.turn) && beginOf(other.turn) < endOf(one.turn)) t.ok(one.x < other.x + other.width && other.x < one.x + one.width)
      }
    }
  }), { numRuns: 100 })
})

t.test('turns that are open at once are in different rows of their lane, and phases fill the bar', async (t) => {
  fc.assert(fc.property(turns, (turns) => {
    const { lanes } = layout(turns, NOW)
    for (const { rows, bars, key } of lanes) {
      t.ok(bars.every(({ row }) => row < rows))
      t.ok(bars.every(({ turn }) => turn.keys[0] === key))
      for (const one of bars) {
        t.ok(Math.abs(one.phases.reduce((sum, { width }) => sum + width, 0) - one.width) < 1e-6)
        for (const other of bars) {
          if (one !== other && one.row === other.row) t.ok(endOf(one.turn) <= beginOf(other.turn) || endOf(other.turn) <= beginOf(one.turn))
        }
      }
    }
    const newest = lanes.map(({ bars }) => Math.max(...bars.map(({ turn }) => turn.id)))
    t.strictSame(newest, [...newest].sort((one, other) => other - one), 'the lane of the newest turn is the first')
  }), { numRuns: 100 })
})

t.test('a pause is as wide as any other, and says how long it was', async (t) => {
  const turn = (id: number, from: number): TurnSummary => ({ id, via: 'request', identity: { channelId: 'c', botId: 'b' }, keys: ['a'], from, phases: [{ name: 'loading', from }], to: from + 5, outcome: 'saved', saved: [], retries: 0, isOverlapped: false, changeCount: 0 })
  const { pauses, width } = layout([turn(1, 0), turn(2, 5000), turn(3, 3_605_005)], 4_000_000)
  t.strictSame(pauses.map(({ milliseconds }) => milliseconds), [4995, 3_600_000])
  t.ok(width < 200)
  t.strictSame(layout([], 0), { width: 0, lanes: [], pauses: [] })
})

t.test('a turn that waited is beside those only that were at work when it was', async (t) => {
  const turn = (id: number, phases: TurnSummary['phases'], to: number): TurnSummary => ({ id, via: 'request', identity: { channelId: 'c', botId: 'b' }, keys: ['a'], from: phases[0]?.from as number, phases, to, outcome: 'saved', saved: [], retries: 0, isOverlapped: false, changeCount: 0 })
  const first = turn(1, [{ name: 'loading', from: 0 }, { name: 'handler', from: 1 }], 100)
  const waited = turn(2, [{ name: 'waiting', from: 50 }, { name: 'loading', from: 100 }, { name: 'handler', from: 101 }], 200)
  const refused = turn(3, [{ name: 'waiting', from: 60 }], 90)
  const beside = (...turns: TurnSummary[]): boolean[] => layout(turns, 1000).lanes.flatMap(({ bars }) => bars.map(({ marks }) => marks.some(({ text }) => text.startsWith('overlapped'))))
  t.strictSame(beside(first, waited, refused), [false, false, false])
  t.strictSame(beside(first, turn(2, [{ name: 'loading', from: 50 }, { name: 'handler', from: 51 }], 60)), [true, true])
})
