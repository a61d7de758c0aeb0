/** The option of every storage that says how long documents live. */
export interface Expiry {
  /**
   * Whole seconds after its last save at which a document is forgotten. Every save restarts the countdown, reading does not.
   * By default documents live for ever.
   */
  ttl?: number | undefined
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
