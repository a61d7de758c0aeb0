/** @import { TurnSummary } from '../inspected-turn.js' */

/**
 * @typedef {object} Mark
 * @property {string} sign
 * @property {string} text what it stands for
 */

/** @type {Record<string, Mark>} */
const OUTCOMES = {
  failed: { sign: '✕', text: 'failed' },
  replaced: { sign: '⇥', text: 'replaced by a later turn' },
  replayed: { sign: '⇄', text: 'replayed, its activity was handled before' }
}
/** @type {Mark} */
const RETRIED = { sign: '↻', text: 'the storage had to try again' }
/** @type {Mark} */
const OVERLAPPED = { sign: '∥', text: 'overlapped another turn of the conversation' }

/** All that there are. */
export const MARKS = [...Object.values(OUTCOMES), RETRIED, OVERLAPPED]

/**
 * What is to be told of a turn beside how long it took.
 *
 * @param {TurnSummary} turn
 * @param {boolean} isBeside whether it was at work while another turn of the conversation was
 */
export function marksOf ({ outcome, retries, isOverlapped }, isBeside) {
  const ofOutcome = OUTCOMES[outcome]
  return [
    ...ofOutcome === undefined ? [] : [ofOutcome],
    ...retries > 0 ? [RETRIED] : [],
    ...isBeside || isOverlapped ? [OVERLAPPED] : []
  ]
}
