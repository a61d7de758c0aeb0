// Not the global one, which users' tests replace: commands would never leave.
import { setImmediate } from 'node:timers'
import { setTimeout as wait } from 'node:timers/promises'
import type { Cluster, Redis } from 'ioredis'
import type { RedisClient } from './client.js'
import { SILENT, failureOf, reasonOf, withoutArguments, withoutNumbers } from './errors.js'
import { MAX_SILENCE, RedisNodes } from './nodes.js'
import type { OutageObserver, StorageCall } from '../storage.js'

/** How long to wait for a server to say goodbye, in milliseconds. */
const QUIT_TIMEOUT = 300
/** How long to wait before a command is sent again, in milliseconds; two that failed together do not come back together. */
const PAUSE = 50
/** How often a command is sent to find out whether a silent server answers again, in milliseconds. */
const PROBE_INTERVAL = 50
/** How many reasons of one outage are told. */
const MAX_REASONS = 3

const CLOSED = 'Redis: the client was closed'

/** A command that waits to be sent. */
interface Waiting {
  send: () => void
  fail: () => void
  /** without it, the first failed attempt to connect is the end of it */
  call: StorageCall | undefined
}

const connections = new WeakMap<RedisClient, RedisConnection>()

/** The connection of a client, the same for all storages that use it. */
export function connectionOf (client: RedisClient): RedisConnection {
  const connection = connections.get(client) ?? new RedisConnection(client)
  connections.set(client, connection)
  return connection
}

/**
 * What a client of ioredis lacks to live through an outage. While there is no connection, or a server that does not
 * answer, commands wait here and not in the client, where they could not be taken back: a caller that gives up leaves nothing queued.
 * What was refused for a passing reason is sent again for as long as somebody waits.
 */
export class RedisConnection {
  readonly client: RedisClient
  /** of a Cluster */
  readonly #nodes: RedisNodes | undefined
  readonly #waiting = new Set<Waiting>()
  readonly #observers = new Set<OutageObserver>()
  #unanswered = 0
  /** since when commands have been sent and nothing has been heard */
  #silentSince: number | undefined
  #probing: NodeJS.Timeout | undefined
  #isClosed = false
  /** why there is no connection, since the last one; empty where there is one, or might be in a moment */
  #reasons: Error[] = []

  constructor (client: RedisClient) {
    this.client = client
    client.on('error', (error: Error) => this.#beginOutage(reasonOf(error)))
    client.on('close', () => this.#failAll(({ call }) => call === undefined))
    if (client.isCluster) this.#nodes = new RedisNodes(client as Cluster)
    client.on('ready', () => this.#endOutage())
    client.on('end', () => this.#onEnd())
    if (client.status === 'end') this.#onEnd()
  }

  /** Tells of every outage, also of the one that is going on. */
  watch (observer: OutageObserver): () => void {
    this.#observers.add(observer)
    for (const reason of this.#reasons) observer.down(reason)
    return () => this.#observers.delete(observer)
  }

  /** Sends QUIT, and waits briefly. */
  async close (): Promise<void> {
    this.#isClosed = true
    const quit = this.client.status === 'ready' ? this.client.quit().catch(() => {}) : undefined
    await Promise.race([quit, wait(QUIT_TIMEOUT, undefined, { ref: false })])
    this.client.disconnect()
    this.#failAll(() => true)
  }

  /**
   * Sends a command, once the server can be reached, and again if that fails for a reason that may pass. Without `call`
   * it is sent once.
   *
   * @throws an error without the arguments of the command, which are private
   */
  send<Result> (command: () => Promise<Result>, call?: StorageCall): Promise<Result> {
    if (this.#isClosed) return Promise.reject(new Error(CLOSED))
    return this.#isOpen() ? this.#sendNow(command, call) : this.#opened(call).then(() => this.#sendNow(command, call))
  }

  async #sendAgain<Result> (command: () => Promise<Result>, call: StorageCall | undefined, error: Error): Promise<Result> {
    if (call === undefined || call.signal.aborted || !this.#isPassing(error)) throw withoutArguments(error)
    call.retrying()
    await wait(PAUSE * (1 + Math.random()), undefined, { signal: call.signal }).catch(() => { throw withoutArguments(error) })
    return this.send(command, call)
  }

  /** Whether there is a server that answers. A client that has ended says so itself. */
  #isOpen (): boolean {
    return this.client.status === 'end' || (this.client.status === 'ready' && !this.#isSilent())
  }

  #isSilent (): boolean {
    return this.#silentSince !== undefined && performance.now() - this.#silentSince > MAX_SILENCE
  }

  #opened (call: StorageCall | undefined): Promise<void> {
    if (this.client.status === 'wait') this.client.connect().catch(() => {})
    if (this.client.status === 'ready') {
      this.#beginOutage(new Error(SILENT))
      this.#probing ??= setInterval(() => this.#probe(), PROBE_INTERVAL).unref()
    }
    return new Promise((resolve, reject) => {
      const over = (): void => {
        this.#waiting.delete(waiting)
        call?.signal.removeEventListener('abort', giveUp)
      }
      const waiting: Waiting = {
        send: () => {
          over()
          resolve()
        },
        fail: () => {
          over()
          reject(this.#unreachable())
        },
        call
      }
      const giveUp = (): void => {
        // Report an outage as soon as a caller gives up, even if the client emitted no error.
        if (this.#reasons.length === 0) this.#beginOutage(this.#unreachable())
        waiting.fail()
      }
      this.#waiting.add(waiting)
      if (call === undefined ? this.client.status === 'ready' : call.signal.aborted) giveUp()
      else call?.signal.addEventListener('abort', giveUp)
    })
  }

  #sendNow<Result> (command: () => Promise<Result>, call: StorageCall | undefined): Promise<Result> {
    this.#unanswered++
    this.#silentSince ??= performance.now()
    const answered = this.#nodes?.sent()
    if (this.#nodes === undefined) corkUntilImmediate(this.client as Redis)
    return command().then((result) => {
      this.#unanswered--
      answered?.()
      this.#onAnswer()
      return result
    }, (error: Error) => {
      this.#unanswered--
      answered?.()
      // Other errors come from the client itself, which gave up waiting for instance.
      if (error.name === 'ReplyError') this.#onAnswer()
      return this.#sendAgain(command, call, error)
    })
  }

  #onAnswer (): void {
    this.#silentSince = this.#unanswered > 0 ? performance.now() : undefined
    if (this.#reasons.length > 0 && this.client.status === 'ready') this.#endOutage()
  }

  /**
   * A hung server answers once it continues; where the client has dropped those commands, or only one node hangs, probe with
   * a new one.
   */
  #probe (): void {
    const [first] = this.#waiting
    if (first === undefined || this.client.status !== 'ready') {
      clearInterval(this.#probing)
      this.#probing = undefined
    } else if (this.#unanswered === 0 || this.#nodes !== undefined) first.send()
  }

  #onEnd (): void {
    this.#beginOutage(new Error(CLOSED))
    this.#failAll(() => true)
  }

  #endOutage (): void {
    this.#silentSince = undefined
    if (this.#reasons.length > 0) {
      this.#reasons = []
      for (const observer of this.#observers) observer.up()
    }
    for (const waiting of this.#waiting) waiting.send()
  }

  /** A connection that breaks and is there again at once is no outage: it takes an attempt that failed to make one. */
  #beginOutage (reason: Error): void {
    if (this.#isClosed || this.#reasons.length >= MAX_REASONS) return
    if (this.#reasons.some(({ message }) => withoutNumbers(message) === withoutNumbers(reason.message))) return
    this.#reasons.push(reason)
    for (const observer of this.#observers) observer.down(reason)
  }

  #failAll (concerned: (waiting: Waiting) => boolean): void {
    for (const waiting of [...this.#waiting].filter(concerned)) waiting.fail()
  }

  #unreachable (): Error {
    if (this.#isClosed || this.client.status === 'end') return new Error(CLOSED)
    return new Error(this.client.status === 'ready' ? SILENT : 'Redis: there is no connection')
  }

  /** Whether a command that was lost or refused may succeed a little later. */
  #isPassing (error: Error): boolean {
    if (this.client.status === 'end') return false
    const failure = failureOf(error)
    const isPassing = failure !== 'final' && (failure !== 'redirected' || this.client.isCluster)
    // Another node may have the key by now. Pipelines do not follow MOVED by themselves.
    if (isPassing && this.client.isCluster) (this.client as Cluster).refreshSlotsCache()
    return isPassing
  }
}

/**
 * What is asked for until the next turn of the event loop is sent in one go. (With `enableAutoPipelining` ioredis does
 * that, too, but slower where few commands are in flight: https://github.com/redis/ioredis/issues/1239)
 */
function corkUntilImmediate ({ stream }: Partial<Redis>): void {
  // A client that has never been connected has none.
  if (stream?.writableCorked !== 0) return
  stream.cork()
  setImmediate(() => stream.uncork())
}
