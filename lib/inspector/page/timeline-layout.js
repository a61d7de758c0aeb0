/** @import { TurnSummary } from '../inspected-turn.js' */

/**
 * @typedef {object} Bar
 * @property {TurnSummary} turn
 * @property {number} x
 * @property {number} width
 * @property {number} row those that are open at once are below each other
 * @property {boolean} isBeside whether another turn of the lane was at work meanwhile
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
  const spans = [...turns].map((turn) => spanOf(turn, now)).sort((one, other) => one.from - other.from)
  const { places, pauses, width } = placeTimes(spans)
  /** @param {number} time */
  const at = (time) => /** @type {number} */ (places.get(time))
  /** @type {Map<string, Lane & { ends: number[], last: number }>} */
  const lanes = new Map()
  for (const { turn, from, to, begun, times } of spans) {
    const [key] = /** @type {[string]} */ (turn.keys)
    const lane = lanes.get(key) ?? { key, rows: 0, bars: [], ends: [], last: 0 }
    lanes.set(key, lane)
    const free = lane.ends.findIndex((end) => end <= from)
    const row = free === -1 ? lane.rows++ : free
    lane.ends[row] = to
    lane.last = Math.max(lane.last, turn.id)
    const isBeside = spans.some((other) => other.turn.keys[0] === key && other.turn !== turn && Math.max(begun, other.begun) < Math.min(to, other.to))
    lane.bars.push({
      turn,
      x: at(from),
      width: at(to) - at(from),
      row,
      isBeside,
      phases: turn.phases.map(({ name }, index) => {
        const [begin, end] = /** @type {[number, number]} */ ([times[index + 1], times[index + 2]])
        return { name, x: at(begin) - at(from), width: at(end) - at(begin) }
      })
    })
  }
  return { width, pauses, lanes: [...lanes.values()].sort((one, other) => other.last - one.last) }
}

/** What is to be told about a turn beside how long it took. @param {TurnSummary} turn */
export function marksOf ({ outcome, retries, isOverlapped }) {
  return [outcome === 'failed', outcome === 'replaced', outcome === 'replayed', retries > 0, isOverlapped].filter(Boolean).length
}

/**
 * @param {TurnSummary} turn
 * @param {number} now
 */
function spanOf (turn, now) {
  const { from, to = now } = turn
  // One that waits for its place is not at work yet.
  const begun = turn.phases.findLast(({ name }) => name === 'waiting') === undefined ? from : turn.phases.find(({ name }) => name === 'handler')?.from ?? to
  return { turn, from, to, begun, times: [from, ...turn.phases.map((phase) => phase.from), to] }
}

/**
 * Where each moment is at which something begins or ends.
 *
 * @param {Array<ReturnType<typeof spanOf>>} spans by their beginnings
 */
function placeTimes (spans) {
  /** @type {Map<number, number>} */
  const places = new Map()
  /** @type {Map<number, number>} what has to be written at the end of a turn takes place */
  const room = new Map()
  /** @type {Pause[]} */
  const pauses = []
  for (const { turn, to } of spans) room.set(to, Math.max(room.get(to) ?? 0, (marksOf(turn) + 1) * MARK))
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
    for (; next < spans.length && /** @type {{ from: number }} */ (spans[next]).from <= time; next++) {
      busyUntil = Math.max(busyUntil, /** @type {{ to: number }} */ (spans[next]).to)
    }
  }
  return { places, pauses, width: x }
}
