import { marksOf } from './marks.js'

/** @import { TurnSummary } from '../inspected-turn.js' */
/** @import { Mark } from './marks.js' */

/**
 * @typedef {object} Bar
 * @property {TurnSummary} turn
 * @property {number} x
 * @property {number} width
 * @property {number} row those that are open at once are below each other
 * @property {Mark[]} marks
 * @property {Array<{ name: string, x: number, width: number }>} phases
 *
 * @typedef {object} Lane
 * @property {string} key of the conversation, or of the user where there is none
 * @property {number} rows
 * @property {Bar[]} bars
 *
 * @typedef {object} Pause
 * @property {number} x
 * @property {number} width
 * @property {number} milliseconds
 *
 * @typedef {object} Layout
 * @property {number} width
 * @property {Lane[]} lanes the one with the newest turn first
 * @property {Pause[]} pauses during which no turn was open
 *
 * @typedef {object} Span
 * @property {TurnSummary} turn
 * @property {number} from
 * @property {number} to
 * @property {number} atWork since when its handler is: one that waits, is refused or replayed is never
 * @property {number[]} times at which something of it begins or ends
 * @property {Mark[]} marks
 */

/** In pixels: the least that something which takes time is wide, what it grows by when that takes ten times as long, a pause, a mark. */
const LEAST = 5
const GROWTH = 18
const PAUSE = 28
const MARK = 15

/**
 * Places turns by what came before what. Time is not to scale: a message takes milliseconds, and the next one comes after a minute.
 *
 * @param {Iterable<TurnSummary>} turns
 * @param {number} now in milliseconds since 1970
 * @returns {Layout}
 */
export function layout (turns, now) {
  const spans = spansOf([...turns], now)
  const { places, pauses, width } = placeTimes(spans)
  /** @param {number} time */
  const at = (time) => /** @type {number} */ (places.get(time))
  /** @type {Map<string, Lane & { ends: number[], last: number }>} */
  const lanes = new Map()
  for (const { turn, from, to, times, marks } of spans) {
    const key = laneOf(turn)
    const lane = lanes.get(key) ?? { key, rows: 0, bars: [], ends: [], last: 0 }
    lanes.set(key, lane)
    const free = lane.ends.findIndex((end) => end <= from)
    const row = free === -1 ? lane.rows++ : free
    lane.ends[row] = to
    lane.last = Math.max(lane.last, turn.id)
    const phases = turn.phases.map(({ name }, index) => {
      const [begin, end] = /** @type {[number, number]} */ ([times[index], times[index + 1]])
      return { name, x: at(begin) - at(from), width: at(end) - at(begin) }
    })
    lane.bars.push({ turn, x: at(from), width: at(to) - at(from), row, marks, phases })
  }
  return { width, pauses, lanes: [...lanes.values()].sort((one, other) => other.last - one.last) }
}

/** @param {TurnSummary} turn */
function laneOf ({ keys }) {
  return /** @type {string} */ (keys[0])
}

/**
 * @param {TurnSummary[]} turns
 * @param {number} now
 * @returns {Span[]} by their beginnings
 */
function spansOf (turns, now) {
  const spans = turns.map((turn) => {
    const { from, to = now, phases } = turn
    const atWork = phases.find(({ name }) => name === 'handler')?.from ?? Infinity
    return { turn, from, to, atWork, times: [...phases.map((phase) => phase.from), to] }
  })
  return spans.sort((one, other) => one.from - other.from).map((span) => {
    const isBeside = spans.some(({ turn, atWork, to }) =>
      turn !== span.turn && laneOf(turn) === laneOf(span.turn) && Math.max(span.atWork, atWork) < Math.min(span.to, to))
    return { ...span, marks: marksOf(span.turn, isBeside) }
  })
}

/**
 * Where each moment is at which something begins or ends.
 *
 * @param {Span[]} spans
 */
function placeTimes (spans) {
  /** @type {Map<number, number>} */
  const places = new Map()
  /** @type {Map<number, number>} what is written at the end of a turn takes place */
  const room = new Map()
  /** @type {Pause[]} */
  const pauses = []
  for (const { to, marks } of spans) room.set(to, Math.max(room.get(to) ?? 0, (marks.length + 1) * MARK))
  const times = [...new Set(spans.flatMap((span) => span.times))].sort((one, other) => one - other)
  let x = 0
  let busyUntil = -Infinity
  let next = 0
  for (const [index, time] of times.entries()) {
    const before = times[index - 1]
    if (before !== undefined && before >= busyUntil) {
      pauses.push({ x, width: PAUSE, milliseconds: time - before })
      x += PAUSE
    } else if (before !== undefined) x += Math.max(LEAST + GROWTH * Math.log10(1 + time - before), room.get(time) ?? 0)
    places.set(time, x)
    for (; next < spans.length && /** @type {Span} */ (spans[next]).from <= time; next++) {
      busyUntil = Math.max(busyUntil, /** @type {Span} */ (spans[next]).to)
    }
  }
  return { places, pauses, width: x }
}
