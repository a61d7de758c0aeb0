import { assertWholeNumber, describeValue, invalidOption } from './option-checks.js'

/** The options of every storage that say how long documents live. */
export interface Expiry {
  /** Whole seconds after which a document is forgotten that was not saved meanwhile. By default documents live for ever. */
  ttl?: number | undefined
  /**
   * What restarts the countdown of `ttl`: `'save'`, or `'load'`, every load and `read` as well, so that an active user is not forgotten.
   * Default `'save'`.
   */
  renew?: 'save' | 'load' | undefined
}

/** The names of these options. */
export const EXPIRY_OPTIONS = ['ttl', 'renew']

/** How long documents live. */
export interface Lifetime {
  /** In seconds, 0 for ever. */
  readonly seconds: number
  /** Whether a load restarts the countdown. */
  readonly isRenewedByLoads: boolean
}

/** @throws FST_BOTAS_STATE_INVALID_OPTION */
export function lifetimeOf ({ ttl, renew = 'save' }: Expiry): Lifetime {
  assertWholeNumber('ttl', ttl, 'seconds')
  if (renew !== 'save' && renew !== 'load') throw invalidOption('renew', '"save" or "load"', describeValue(renew))
  return { seconds: ttl ?? 0, isRenewedByLoads: ttl !== undefined && renew === 'load' }
}

/** How often expired documents are looked for: once in a lifetime, within these bounds, in milliseconds. */
const MIN_INTERVAL = 1000
const MAX_INTERVAL = 3_600_000

/**
 * Calls `prune` now and then, which does not keep the process alive.
 *
 * @param ttl in seconds
 */
export function pruneRegularly (prune: () => unknown, ttl: number): NodeJS.Timeout {
  return setInterval(prune, Math.min(Math.max(ttl * 1000, MIN_INTERVAL), MAX_INTERVAL)).unref()
}
