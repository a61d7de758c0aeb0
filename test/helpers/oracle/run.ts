import { setImmediate as immediate, setTimeout as wait } from 'node:timers/promises'
import type { Hook, Program, Scope } from './program.js'

export type By = Hook['phase'] | 'handler' | 'work' | 'stream' | 'fastify'

/** What happened on the server, as the program itself and Fastify's hooks saw it. */
export type Event =
  { is: 'the handler begins' | 'the handler is done' | 'the handler had its reply' | 'the client left' } |
  { is: 'waitUntil' | 'waitUntil is over' } |
  { is: 'handed over', status: number, streamed: boolean } |
  { is: 'headers', status: number } |
  { is: 'changed', by: By, scope: Scope, key: string } |
  { is: 'refused', by: By, scope: Scope, code: string } |
  { is: 'failed', by: By, why: string }

export const STREAM_FAILED = 'the stream failed'

/** What a `throw` of a program throws. */
export class Thrown extends Error {}

/** One run of a program: what its hooks and its handler have in common. */
export class Run {
  readonly program: Program
  /** with the plugin; without it; or without it and without what the handler sends: a reply that waits does not count if the handler throws */
  readonly mode: 'plugin' | 'bare' | 'bare, nothing sent'
  readonly events: Event[] = []
  readonly clock = new Clock()
  /** payloads that the handler itself streams */
  readonly streams = new WeakSet<object>()
  /** whose body was read before the program begins */
  readonly consumed = new Response('consumed')
  readonly uncaught: string[] = []
  readonly log: string[] = []
  leave: () => void = () => {}
  /** hooks, handlers and promises of the program that are at work */
  busy = 0
  /** whether the handler sent something or is about to */
  isHandedOver = false
  /** own hooks that a reply waits for, and streams that are being sent: bare Fastify mixes replies up then */
  replying = 0
  isMixedUp = false
  #isStreaming = false

  constructor (program: Program, mode: Run['mode']) {
    this.program = program
    this.mode = mode
  }

  note (event: Event): void {
    this.events.push(event)
  }

  has (is: Event['is']): boolean {
    return this.events.some((event) => event.is === is)
  }

  /** Whether the reply is that of an error. */
  get hasError (): boolean {
    return this.events.some((event) => event.is === 'failed' && event.by === 'fastify')
  }

  /** Something begins that does not go together with a reply that is on its way. */
  interfere (): void {
    if (this.replying > 0) this.isMixedUp = true
  }

  streaming (): void {
    if (!this.#isStreaming) this.replying++
    this.#isStreaming = true
  }

  streamOver (): void {
    if (this.#isStreaming) this.replying--
    this.#isStreaming = false
  }

  streamFailed (): Error {
    this.note({ is: 'failed', by: 'stream', why: STREAM_FAILED })
    return new Error(STREAM_FAILED)
  }

  /** Reads a body in the way that leaves its stream unlocked. */
  async consume (): Promise<void> {
    const reader = this.consumed.body?.getReader()
    while ((await reader?.read())?.done === false);
    reader?.releaseLock()
  }

  /** Counts work that has to come to its end before the run is judged. */
  async during<Result> (work: () => Promise<Result>): Promise<Result> {
    this.busy++
    try {
      return await work()
    } finally {
      this.busy--
    }
  }
}

/** Timers that fire in the order of their times, however busy the machine is. */
class Clock {
  #now = 0
  #waiting: Array<{ at: number, go: () => void }> = []
  #isRunning = false

  get isIdle (): boolean {
    return !this.#isRunning
  }

  wait (ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push({ at: this.#now + ms, go: resolve })
      this.#waiting.sort((one, other) => one.at - other.at)
      if (!this.#isRunning) this.#run()
    })
  }

  async #run (): Promise<void> {
    this.#isRunning = true
    while (this.#waiting.length > 0) {
      await wait(1)
      this.#now++
      while (this.#waiting[0] !== undefined && this.#waiting[0].at <= this.#now) {
        this.#waiting.shift()?.go()
        await immediate()
      }
    }
    this.#isRunning = false
  }
}
