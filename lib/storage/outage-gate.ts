import { setMaxListeners } from 'node:events'
import { setTimeout as wait } from 'node:timers/promises'
import { withDeadline } from '../waiting/deadline.js'
import { Outage } from './outage.js'
import { Patience } from './patience.js'
import { Probe } from './probe.js'
import type { OutageObserver, StorageCall } from './storage.js'

/** How long to wait before a command is sent again, from and to, in milliseconds; two that failed together do not come back together. */
const MIN_PAUSE = 50
const MAX_PAUSE = 100
/** The longest pause that a server can ask for, in milliseconds: its callers give up before. */
const MAX_RETRY_AFTER = 3_600_000
/** How often the time of an attempt is doubled. */
const MAX_DOUBLINGS = 3

/**
 * What the error of a command says: `'refused'`, no connection could be made; `'busy'`, the server does not execute it for now;
 * `'lost'`, it may have been executed; `'final'`, the server answered, and trying again is no use.
 */
export type Failure = 'refused' | 'busy' | 'lost' | 'final'

/** How commands get to a server, and what becomes of them. */
export interface Link {
  /** Begins every message: the name of the server. */
  readonly server: string
  /** How long a server may leave every command unanswered, in milliseconds. */
  readonly maxSilence: number
  /**
   * How long one attempt may take, in milliseconds; the next ones may take longer. Left out where the client itself tells of connections
   * that are lost.
   */
  readonly attemptTimeout?: number
  /** `'closed'`: for good. */
  status(): 'open' | 'opening' | 'closed'
  /** Asks the server for anything. */
  ping(patience: Patience): Promise<unknown>
  failureOf(error: Error): Failure
  /** When a busy server wants to be asked again, in milliseconds from now; NaN where it does not say. */
  retryAfter?(error: Error): number | undefined
  /** The same without anything private. */
  cleaned(error: Error): Error
}

/** A command, which may be given up. */
export type Command<Result> = (patience: Patience) => Promise<Result>

/** A command that waits to be sent. */
interface Waiting {
  send: () => void
  fail: () => void
  /** without it, the first failed attempt to connect is the end of it */
  call: StorageCall | undefined
}

/** Which attempt at a command it is. */
interface Attempt {
  readonly index: number
  /** Why its caller has waited before, and may give up while it is under way; without anything private. */
  readonly error?: Error
}

const FIRST: Attempt = { index: 0 }
const ENDLESS = new Patience()

/**
 * What a client of a server lacks to live through an outage. While the server is out of reach, commands wait here, so that a caller
 * that gives up leaves nothing queued. What failed for a passing reason is sent again for as long as somebody waits.
 */
export class OutageGate {
  readonly #link: Link
  readonly #waiting = new Set<Waiting>()
  readonly #outage = new Outage()
  #unanswered = 0
  /** since when commands have been sent and nothing has been heard, as `performance.now` has it */
  #silentSince: number | undefined
  /** when the server last answered */
  #heard = -Infinity
  /** whether an attempt has failed, and none has succeeded since, where the client does not tell of connections */
  #isDown = false
  readonly #probe: Probe
  /** what is sent that is no command of a caller */
  readonly #ofOurs = new Set<Patience>()
  #isClosed = false

  constructor (link: Link) {
    this.#link = link
    // Also where no command waits, so that the end of an outage is told.
    this.#probe = new Probe(() => !this.#isClosed && link.status() === 'open' && (this.#waiting.size > 0 || (this.#isDown && this.#outage.isWatched)), () => this.#ping())
  }

  /** Tells of every outage, also of the one that is going on. */
  watch (observer: OutageObserver): () => void {
    const unwatch = this.#outage.watch(observer)
    if (this.#isDown) this.#probe.begin()
    return unwatch
  }

  /** Nothing is sent from now on. */
  close (): void {
    this.#isClosed = true
    this.endBackground()
    this.fail(() => true)
  }

  /** What was sent in the background is given up. */
  endBackground (): void {
    for (const patience of this.#ofOurs) patience.end(this.#silent())
  }

  /**
   * Sends what may take long, once: whether it succeeds in time says nothing of the server.
   *
   * @param timeout in milliseconds
   * @throws an error without anything private
   */
  sendInBackground<Result> (command: Command<Result>, timeout: number): Promise<Result> {
    return this.#inTime(command, timeout).catch((error) => { throw this.#cleaned(error) })
  }

  /** For what is no command of a caller. */
  async #inTime<Result> (command: Command<Result>, timeout: number): Promise<Result> {
    const patience = new Patience()
    this.#ofOurs.add(patience)
    try {
      return await withDeadline(command(patience), timeout, () => patience.end(this.#silent()))
    } catch (error) {
      throw patience.ended ?? error
    } finally {
      this.#ofOurs.delete(patience)
    }
  }

  /**
   * Sends a command, once the server can be reached, and again if that fails for a reason that may pass. Without `call`
   * it is sent once.
   *
   * @throws an error without anything private
   */
  send<Result> (command: Command<Result>, call?: StorageCall): Promise<Result> {
    return this.#send(command, call, FIRST)
  }

  #send<Result> (command: Command<Result>, call: StorageCall | undefined, attempt: Attempt): Promise<Result> {
    if (this.#isClosed) return Promise.reject(this.#unreachable())
    return this.#isOpen(call) ? this.#sendNow(command, call, attempt) : this.#opened(call).then(() => this.#sendNow(command, call, { error: this.#silent(), ...attempt }))
  }

  /** The server is out of reach. A connection that breaks and is there again at once is no outage: it takes an attempt that failed. */
  begin (reason: Error): void {
    if (!this.#isClosed) this.#outage.begin(reason)
  }

  /** The server can be reached. */
  end (): void {
    this.#silentSince = undefined
    this.#isDown = false
    this.#outage.end()
    for (const waiting of this.#waiting) waiting.send()
  }

  /** Commands that wait, those of some callers or all, are not sent. */
  fail (concerned: (call: StorageCall | undefined) => boolean): void {
    for (const waiting of [...this.#waiting].filter(({ call }) => concerned(call))) waiting.fail()
  }

  /** Whether to send now. A client that is closed says so itself, and an attempt without patience is its own probe. */
  #isOpen (call: StorageCall | undefined): boolean {
    const status = this.#link.status()
    if (status !== 'open') return status === 'closed'
    return !(this.#isSilent() || this.#isDown) || (call === undefined && this.#link.attemptTimeout !== undefined)
  }

  #isSilent (): boolean {
    return this.#silentSince !== undefined && performance.now() - this.#silentSince > this.#link.maxSilence
  }

  #opened (call: StorageCall | undefined): Promise<void> {
    if (this.#link.status() === 'open' && this.#isSilent()) this.#shut(this.#unreachable())
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
        if (!this.#outage.isGoingOn) this.begin(this.#unreachable())
        waiting.fail()
      }
      this.#waiting.add(waiting)
      if (call === undefined ? this.#link.status() === 'open' : call.signal.aborted) giveUp()
      else if (call !== undefined) listen(call.signal, giveUp)
      this.#probe.begin()
    })
  }

  #sendNow<Result> (command: Command<Result>, call: StorageCall | undefined, attempt: Attempt): Promise<Result> {
    const sent = performance.now()
    this.#unanswered++
    this.#silentSince ??= sent
    return this.#attempt(command, call, attempt, sent).then((result) => {
      this.#unanswered--
      this.#onAnswer()
      return result
    }, (error: Error) => {
      this.#unanswered--
      if (error instanceof GivenUp) {
        if (this.#unanswered === 0) this.#silentSince = undefined
        throw error.reason
      }
      const failure = this.#failureOf(error)
      if (failure === 'busy' || failure === 'final') this.#onAnswer()
      else this.#onFailure(failure, error, attempt, sent)
      return this.#sendAgain(command, call, attempt, { error, failure })
    })
  }

  /** One attempt, which is given up in time. */
  #attempt<Result> (command: Command<Result>, call: StorageCall | undefined, { index, error }: Attempt, sent: number): Promise<Result> {
    const { attemptTimeout } = this.#link
    if (attemptTimeout === undefined) return command(ENDLESS)
    const patience = new Patience()
    const limit = Math.min(attemptTimeout * 2 ** Math.min(index, MAX_DOUBLINGS), call?.timeout ?? Infinity)
    const answer = withDeadline(command(patience), limit, () => {
      if (this.#heard < sent) this.#shut(this.#silent())
      patience.end(this.#silent())
    }).catch((error) => { throw patience.ended ?? error })
    // By its timeout the caller gives up what is sent at once; of what has waited its signal tells, and that says nothing of the server.
    if (error === undefined || call === undefined) return answer
    const giveUp = (): void => patience.end(new GivenUp(error))
    listen(call.signal, giveUp)
    return answer.finally(() => call.signal.removeEventListener('abort', giveUp))
  }

  #failureOf (error: Error): Failure {
    return error instanceof Unanswered ? 'lost' : this.#link.failureOf(error)
  }

  #cleaned (error: Error): Error {
    return error instanceof Unanswered ? error : this.#link.cleaned(error)
  }

  async #sendAgain<Result> (
    command: Command<Result>, call: StorageCall | undefined, { index }: Attempt, { error, failure }: { error: Error, failure: Failure }
  ): Promise<Result> {
    const cleaned = this.#cleaned(error)
    if (call === undefined || call.signal.aborted || failure === 'final' || this.#link.status() === 'closed') throw cleaned
    call.retrying()
    setMaxListeners(0, call.signal)
    const asked = Math.min(this.#link.retryAfter?.(error) ?? 0, MAX_RETRY_AFTER)
    const pause = Math.min(MIN_PAUSE * 2 ** index, MAX_PAUSE)
    await wait((asked > pause ? asked : pause) * (1 + Math.random()), undefined, { signal: call.signal }).catch(() => { throw cleaned })
    return this.#send(command, call, { index: index + 1, error: cleaned })
  }

  #onAnswer (): void {
    const now = performance.now()
    this.#heard = now
    this.#silentSince = this.#unanswered > 0 ? now : undefined
    if ((this.#outage.isGoingOn || this.#isDown) && this.#link.status() === 'open') this.end()
  }

  /** Where the client does not tell of connections, two attempts that fail, or one to connect, are an outage. */
  #onFailure (failure: Failure, error: Error, { index }: Attempt, sent: number): void {
    if (this.#link.attemptTimeout === undefined || this.#heard >= sent) return
    if (failure === 'refused' || index > 0) this.#shut(this.#cleaned(error))
  }

  #shut (reason: Error): void {
    this.begin(reason)
    this.#isDown = this.#link.attemptTimeout !== undefined
    this.#probe.begin()
  }

  async #ping (): Promise<void> {
    try {
      await this.#inTime((patience) => this.#link.ping(patience), this.#link.maxSilence)
    } catch (error) {
      const failure = this.#failureOf(error as Error)
      if (failure === 'refused' || failure === 'lost') return
    }
    this.#onAnswer()
  }

  #unreachable (): Error {
    const { server } = this.#link
    const status = this.#link.status()
    if (this.#isClosed || status === 'closed') return new Error(`${server}: the client was closed`)
    if (this.#isDown) return new Error(this.#outage.reason)
    return status === 'open' ? this.#silent() : new Error(`${server}: there is no connection`)
  }

  #silent (): Error {
    return new Unanswered(`${this.#link.server}: the server does not answer`)
  }
}

class Unanswered extends Error {}

/** Nobody waits for a command any more. */
class GivenUp extends Error {
  readonly reason: Error

  constructor (reason: Error) {
    super()
    this.reason = reason
  }
}

/** A caller may wait for many commands at once. */
function listen (signal: AbortSignal, listener: () => void): void {
  setMaxListeners(0, signal)
  signal.addEventListener('abort', listener)
}
