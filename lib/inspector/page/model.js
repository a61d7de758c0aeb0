/** @import { Seen } from '../inspected-turns.js' */
/** @import { TurnSummary } from '../inspected-turn.js' */

/**
 * What the server has told, in its order: the last one is the newest.
 *
 * @typedef {object} Model
 * @property {string} server tells it from the one before, whose turns had the same numbers
 * @property {Map<number, TurnSummary>} turns by their numbers
 * @property {Map<string, Seen>} seen conversations and users, by the keys of their documents
 */

/**
 * @param {string} server
 * @returns {Model}
 */
export function emptyModel (server) {
  return { server, turns: new Map(), seen: new Map() }
}

/**
 * @param {Model} model
 * @param {{ turns: TurnSummary[], seen: Seen[] }} news
 * @param {{ turns: number, seen: number }} limits how many the server remembers
 */
export function addNews (model, { turns, seen }, limits) {
  for (const turn of turns) model.turns.set(turn.id, turn)
  for (const one of seen) {
    // The one that was seen last comes last.
    model.seen.delete(one.key)
    model.seen.set(one.key, one)
  }
  trim(model.turns, limits.turns)
  trim(model.seen, limits.seen)
}

/**
 * @param {Map<unknown, unknown>} map
 * @param {number} max
 */
function trim (map, max) {
  for (const key of map.keys()) {
    if (map.size <= max) return
    map.delete(key)
  }
}

/**
 * What a filter leaves.
 *
 * @param {Model} model
 * @param {string} filter a part of keys, in any case
 * @returns {{ turns: TurnSummary[], seen: Seen[] }} the oldest turn first; whoever was seen last first, with all who had turns together
 */
export function found ({ turns, seen }, filter) {
  const part = filter.trim().toLowerCase()
  /** @param {string} key */
  const fits = (key) => key.toLowerCase().includes(part)
  const found = [...turns.values()].filter(({ keys }) => keys.some(fits))
  const keys = new Set(found.flatMap(({ keys }) => keys))
  return { turns: found, seen: [...seen.values()].filter(({ key }) => keys.has(key) || fits(key)).reverse() }
}

/**
 * What is looked at: a turn, or a document; otherwise the latest turn.
 *
 * @typedef {{ turn?: number, of?: string | null, key?: string }} Focus
 */

/**
 * @param {string} hash of the address, so that it outlives a reload, and "back" leads back
 * @returns {Focus}
 */
export function focusOf (hash) {
  const parameters = new URLSearchParams(hash.slice('#/'.length))
  const turn = parameters.get('turn')
  const key = parameters.get('key')
  if (turn !== null) return { turn: Number(turn), of: parameters.get('of') }
  return key === null ? {} : { key }
}

/**
 * @param {number} id
 * @param {Model} model
 */
export function turnLink (id, { server }) {
  return `#/${new URLSearchParams({ turn: `${id}`, of: server })}`
}

/**
 * What is looked at on this server: a turn that was chosen on the one before is none of it.
 *
 * @param {Focus} focus
 * @param {Model} model
 * @returns {Focus}
 */
export function focusOn (focus, { server }) {
  return focus.of == null || focus.of === server ? focus : {}
}

/** @param {string} key */
export function documentLink (key) {
  return `#/${new URLSearchParams({ key })}`
}

/**
 * The turn that is looked at, and the keys of the documents that are shown with it.
 *
 * @param {Model} model
 * @param {TurnSummary[]} latest among which the latest one is looked for
 * @param {Focus} focus
 * @returns {{ turn: TurnSummary | undefined, keys: string[] }}
 */
export function lookedAt ({ turns }, latest, focus) {
  if (focus.turn !== undefined) {
    const turn = turns.get(focus.turn)
    return { turn, keys: turn?.keys ?? [] }
  }
  const { key } = focus
  const turn = key === undefined ? latest.at(-1) : [...turns.values()].findLast(({ keys }) => keys.includes(key))
  return { turn, keys: key === undefined ? turn?.keys ?? [] : [key] }
}
