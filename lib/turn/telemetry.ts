import { type Channel, channel } from 'node:diagnostics_channel'
import { performance } from 'node:perf_hooks'
import { withDeadline } from '../waiting/deadline.js'
import type { StorageCall } from '../storage/storage.js'
import type { TurnWatch } from './turn-watch.js'

/** What is published on the channels `botas-state:load` and `botas-state:flush` of `node:diagnostics_channel`. */
export interface StateEvent {
  /** The keys of the documents that were loaded or were to be saved. They contain ids, never values. */
  keys: string[]
  /** Milliseconds from the beginning to the end, all waiting included. */
  duration: number
  /** Whether all documents were loaded or saved. */
  outcome: 'success' | 'failure'
  /** How often the storage had to try again. */
  retries: number
  /** The code of the error, `FST_BOTAS_STATE_…`, after a failure only. */
  code?: string
}

/** What is published on the channel `botas-state:place` of `node:diagnostics_channel`, where turns wait for each other. */
export interface PlaceEvent {
  /** The key of the document whose place a turn asked for. It contains ids, never values. */
  key: string
  /** Milliseconds from its arrival until it had its place, and its documents, or was refused. */
  waited: number
  /** Whether it got its place. */
  outcome: 'success' | 'failure'
  /** The code of the error, `FST_BOTAS_STATE_…`, after a failure only. */
  code?: string
}

/** What an operator asks first: `fastify.botasState.stats`, counted since the plugin was registered. */
export interface BotasStateStats {
  /** Turns that are identified and not over. */
  openTurns: number
  /** Turns that wait for their place in a conversation, or for another delivery of their activity. */
  waitingTurns: number
  /** Turns that lost their place while they were open, because their process hung or the storage forgot it, and were merged. */
  leasesLost: number
  /** Turns of which nothing was saved because a later one of the conversation replaced them. */
  replacedTurns: number
  /** Deliveries that got the reply of an earlier one of their activity. */
  replayedTurns: number
  /** Saves that wait for their turn or for the storage. */
  pendingFlushes: number
  /** Loads that were begun, those under way included. */
  loads: number
  /** Turns that failed, with a 500, because a load failed, or a document that was loaded could not be used: corrupt, for instance. */
  loadFailures: number
  /** How often a storage had to load again, for instance because a connection broke. */
  loadRetries: number
  /** Saves that were begun, those under way included. A turn that changed nothing has none. */
  flushes: number
  /** Saves that failed: turns that were not saved, or only in part. */
  flushFailures: number
  /** How often a storage had to save again, for instance because another turn was faster. */
  flushRetries: number
  /** The last load or save that failed; `null` while none has. */
  lastError: {
    /** When it failed, in milliseconds since 1970. */
    at: number
    /** The code of its error, `FST_BOTAS_STATE_…`. */
    code: string
    /** The message of its error, and what the storage said. It names keys, and no values. */
    message: string
  } | null
  /** The outage that is going on, as far as the storage tells of outages; `null` while it can be reached. */
  outage: {
    /** When it began, in milliseconds since 1970. */
    since: number
    /** Its latest reason. */
    reason: string
  } | null
}

/** What the loads, or the saves, of one server have in common. */
interface Kind {
  readonly name: 'load' | 'save'
  readonly channel: Channel
  /** milliseconds */
  readonly timeout: number
  begun: number
  succeeded: number
  failed: number
  retried: number
  readonly noteError: (error: BotasStateStats['lastError']) => void
}

const channels = { load: channel('botas-state:load'), save: channel('botas-state:flush') }
const placeChannel = channel('botas-state:place')
/** What else fails is the load. */
const KEPT_CODES = new Set(['FST_BOTAS_STATE_BUSY', 'FST_BOTAS_STATE_REPLACED', 'FST_BOTAS_STATE_TURN_ENDED', 'FST_BOTAS_STATE_CANNOT_DECRYPT'])

/** What becomes of the turns of one server that meet each other: counted, and published for whoever listens. */
export class Overlaps {
  leasesLost = 0
  replacedTurns = 0
  replayedTurns = 0

  /** @param waited in milliseconds */
  publish (key: string, waited: number, error?: Error): void {
    if (!placeChannel.hasSubscribers) return
    const { code } = (error ?? {}) as { code?: string }
    placeChannel.publish({
      key,
      waited,
      ...(error === undefined ? { outcome: 'success' } : { outcome: 'failure', code: code !== undefined && KEPT_CODES.has(code) ? code : 'FST_BOTAS_STATE_LOAD_FAILED' })
    } satisfies PlaceEvent)
  }
}

/** The loads and saves of one server: counted, and published for whoever listens. */
export class Operations {
  readonly #kinds: Record<'load' | 'save', Kind>
  #lastError: BotasStateStats['lastError'] = null

  /** Both times in milliseconds. */
  constructor ({ loadTimeout, saveTimeout }: { loadTimeout: number, saveTimeout: number }) {
    const counts = { begun: 0, succeeded: 0, failed: 0, retried: 0 }
    const noteError = (error: BotasStateStats['lastError']): void => { this.#lastError = error }
    this.#kinds = {
      load: { name: 'load', channel: channels.load, timeout: loadTimeout, ...counts, noteError },
      save: { name: 'save', channel: channels.save, timeout: saveTimeout, ...counts, noteError }
    }
  }

  get stats (): Omit<BotasStateStats, 'openTurns' | 'waitingTurns' | 'leasesLost' | 'replacedTurns' | 'replayedTurns' | 'outage'> {
    const { load, save } = this.#kinds
    return {
      pendingFlushes: save.begun - save.succeeded - save.failed,
      loads: load.begun,
      loadFailures: load.failed,
      loadRetries: load.retried,
      flushes: save.begun,
      flushFailures: save.failed,
      flushRetries: save.retried,
      lastError: this.#lastError && { ...this.#lastError }
    }
  }

  /** A document that was loaded turned out, when it was first touched, to be none that the turn can use. */
  unusable (error: unknown): void {
    const { load } = this.#kinds
    load.failed++
    load.noteError(lastErrorOf(error))
  }

  /** @param watch of the turn, if somebody watches */
  begin (kind: 'load' | 'save', keys: string[], watch?: TurnWatch): Operation {
    return new Operation(this.#kinds[kind], keys, watch)
  }
}

/** One load or save: counted, published, and given up in time. It is what a storage knows of who waits for it. */
export class Operation implements StorageCall {
  readonly #kind: Kind
  /** of the documents that it is about */
  readonly keys: string[]
  readonly #begun: number | undefined
  readonly #watch: TurnWatch | undefined
  #retries = 0
  #controller: AbortController | undefined
  #expired = false

  constructor (kind: Kind, keys: string[], watch: TurnWatch | undefined) {
    this.#kind = kind
    this.keys = keys
    this.#watch = watch
    // Only subscribers need the duration.
    this.#begun = kind.channel.hasSubscribers || watch !== undefined ? performance.now() : undefined
    kind.begun++
    this.asks()
  }

  /** The storage is asked, after whatever had to be waited for. */
  asks (): void {
    this.#watch?.enters(this.#kind.name === 'load' ? 'loading' : 'saving')
  }

  /**
   * What was given up, and reported as failed, begins nothing more; what was sent to a storage cannot be taken back.
   *
   * @throws where it was given up
   */
  assertPending (): void {
    if (this.#expired) throw new Error('the operation has timed out')
  }

  /** Aborted when the operation is given up. Created lazily: few storages ask for it. */
  get signal (): AbortSignal {
    this.#controller ??= new AbortController()
    if (this.#expired) this.#controller.abort()
    return this.#controller.signal
  }

  get timeout (): number {
    return this.#kind.timeout
  }

  retrying (): void {
    this.#retries++
    this.#kind.retried++
    this.#watch?.retrying()
  }

  /** Settles as `work` does, or rejects when that takes too long. */
  inTime<Result> (work: Promise<Result>): Promise<Result> {
    return withDeadline(work, this.#kind.timeout, () => {
      this.#expired = true
      this.#controller?.abort()
    })
  }

  /** It was no load after all: the turn has to wait, or is refused. */
  withdrawn (): void {
    this.#kind.begun--
  }

  succeeded (): void {
    this.#kind.succeeded++
    this.#publish('success')
  }

  /** @param saved the keys of the documents that were saved all the same */
  failed (error: unknown, saved: string[] = []): void {
    this.#kind.failed++
    this.#kind.noteError(lastErrorOf(error))
    this.#publish('failure', { error, saved })
  }

  #publish (outcome: StateEvent['outcome'], failure?: { error: unknown, saved: string[] }): void {
    if (this.#begun === undefined) return
    const duration = performance.now() - this.#begun
    const code = failure && { code: (failure.error as { code: string }).code }
    const event: StateEvent = { keys: this.keys, duration, retries: this.#retries, outcome, ...code }
    this.#kind.channel.publish(event)
    this.#watch?.published(this.#kind.name, event, failure)
  }
}

function lastErrorOf (error: unknown): BotasStateStats['lastError'] {
  const { code, message, cause } = error as Error & { code: string }
  return { at: Date.now(), code, message: cause instanceof Error ? `${message}: ${cause.message}` : message }
}
