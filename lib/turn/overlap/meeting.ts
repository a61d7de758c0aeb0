import { busy, taken } from './busy.js'
import type { PlaceLimits, Strategy } from './terms.js'

/** A turn that is met by a later one of its conversation, in this process. */
export interface MetTurn {
  /** Whether nothing but its save is to come. */
  readonly isDecided: boolean
  /** Whether it waits for its place. */
  readonly isToWait: boolean
  /** Makes room for the later turn, if it can. */
  replace(): void
}

/**
 * What a strategy does to the turns before one. Those that are left are waited for.
 *
 * @throws FST_BOTAS_STATE_BUSY
 */
export function meet (strategy: Strategy, before: MetTurn[]): void {
  // A client that has its reply may send the next message before the turn is saved.
  if (strategy === 'reject' && before.some(({ isDecided }) => !isDecided)) throw taken()
  if (strategy === 'replace') for (const turn of before) turn.replace()
}

/** @throws FST_BOTAS_STATE_BUSY where as many turns wait as may wait */
export function assertMayWait (before: MetTurn[], { maxWaiting }: PlaceLimits): void {
  if (before.filter(({ isToWait }) => isToWait).length >= maxWaiting) throw busy('as many turns of this conversation wait as may wait')
}
