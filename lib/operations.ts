import { channel } from 'node:diagnostics_channel'
import type { Deadline } from './deadline.js'
import type { StorageCall } from './storage/storage.js'

/** What is published on the channels `botas-state:load` and `botas-state:flush` of `node:diagnostics_channel`. */
export interface StateEvent {
  /** of the documents that were loaded or were to be saved; they contain ids, never values */
  keys: string[]
  /** milliseconds from the beginning to the end, all waiting included */
  duration: number
  outcome: 'success' | 'failure'
  /** how often the storage had to try again */
  retries: number
  /** of the error, after a failure */
  code?: string
}

/** What an operator asks first: `fastify.botasState.stats`, counted since the plugin was registered. */
export interface BotasStateStats {
  /** turns that are identified and not over */
  openTurns: number
  /** flushes that wait for their turn or for the storage */
  pendingFlushes: number
  loads: number
  loadFailures: number
  /** how often a storage had to read again, because a connection broke for instance */
  loadRetries: number
  flushes: number
  flushFailures: number
  /** how often a storage had to write again, because another turn was faster for instance */
  flushRetries: number
  /** the last load or flush that failed; `at` is in milliseconds since 1970 */
  lastError: { at: number, code: string, message: string } | null
  /** the outage that is going on, as far as the storage tells, and its latest reason; `since` is in milliseconds since 1970 */
  outage: { since: number, reason: string } | null
}

type Kind = 'load' | 'flush'

const channels = { load: channel('botas-state:load'), flush: channel('botas-state:flush') }

/** The loads and flushes of one server: counted, and published for whoever listens. */
export class Operations {
  readonly #counts = {
    load: { begun: 0, succeeded: 0, failed: 0, retried: 0 },
    flush: { begun: 0, succeeded: 0, failed: 0, retried: 0 }
  }

  #lastError: BotasStateStats['lastError'] = null

  get stats (): Omit<BotasStateStats, 'openTurns' | 'outage'> {
    const { load, flush } = this.#counts
    return {
      pendingFlushes: flush.begun - flush.succeeded - flush.failed,
      loads: load.begun,
      loadFailures: load.failed,
      loadRetries: load.retried,
      flushes: flush.begun,
      flushFailures: flush.failed,
      flushRetries: flush.retried,
      lastError: this.#lastError
    }
  }

  /** @param work calls `retrying` whenever it has to begin anew */
  async measure<Result> (kind: Kind, keys: string[], work: (retrying: () => void) => Promise<Result>): Promise<Result> {
    const count = this.#counts[kind]
    const begun = performance.now()
    let retries = 0
    const publish = (outcome: Pick<StateEvent, 'outcome' | 'code'>): void => {
      if (channels[kind].hasSubscribers) {
        channels[kind].publish({ keys, duration: performance.now() - begun, retries, ...outcome } satisfies StateEvent)
      }
    }
    count.begun++
    try {
      const result = await work(() => {
        retries++
        count.retried++
      })
      count.succeeded++
      publish({ outcome: 'success' })
      return result
    } catch (error) {
      const { code, message } = error as Error & { code: string }
      count.failed++
      this.#lastError = { at: Date.now(), code, message }
      publish({ outcome: 'failure', code })
      throw error
    }
  }
}

/** What a storage is told of who waits for it. */
export function storageCall (deadline: Deadline, retrying: () => void): StorageCall {
  return {
    get signal () { return deadline.signal },
    retrying
  }
}
