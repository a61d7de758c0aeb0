import { performance } from 'node:perf_hooks'
import { busy } from './busy.js'

/** The waiting of one turn, as often as it has to. Once refused, it is refused for good. */
export class Waiting {
  /** when the turn arrived, as `performance.now` has it */
  readonly #since = performance.now()
  readonly #turns: WaitingTurns
  readonly #onWait: () => void
  #refusal: Error | undefined
  #refuse: ((error: Error) => void) | undefined

  /** @param onWait is called whenever it begins to wait */
  constructor (turns: WaitingTurns, onWait: () => void) {
    this.#turns = turns
    this.#onWait = onWait
  }

  /** How long ago the turn arrived, in milliseconds. */
  get waited (): number {
    return performance.now() - this.#since
  }

  get refusal (): Error | undefined {
    return this.#refusal
  }

  throwIfRefused (): void {
    if (this.#refusal !== undefined) throw this.#refusal
  }

  refuse (error: Error): void {
    this.#refusal ??= error
    this.#refuse?.(this.#refusal)
  }

  /** @param maxWait as for `until` */
  async pause (milliseconds: number, maxWait: number, reason: string): Promise<void> {
    await this.until((resume) => setTimeout(resume, milliseconds * (0.5 + Math.random())), maxWait, reason)
  }

  /**
   * Waits to be resumed.
   *
   * @param maxWait since the turn arrived, in milliseconds
   * @param reason why it is refused then
   */
  async until (begin: (resume: () => void) => unknown, maxWait: number, reason: string): Promise<void> {
    this.#turns.add(this)
    this.#onWait()
    let timer: NodeJS.Timeout | undefined
    try {
      await new Promise<void>((resolve, reject) => {
        // Timers leave out what is less than a millisecond.
        const left = Math.ceil(maxWait - this.waited)
        timer = setTimeout(() => this.refuse(busy(`${reason} after ${maxWait} ms`)), Math.max(left, 0))
        this.#refuse = reject
        begin(resolve)
        if (this.#refusal !== undefined) reject(this.#refusal)
      })
    } finally {
      clearTimeout(timer)
      this.#turns.delete(this)
    }
  }
}

/** The turns of one server that wait for their place, or for another delivery of their activity. */
export class WaitingTurns {
  readonly #turns = new Set<Waiting>()
  #closing: Error | undefined

  get count (): number {
    return this.#turns.size
  }

  add (turn: Waiting): void {
    this.#turns.add(turn)
    if (this.#closing !== undefined) turn.refuse(this.#closing)
  }

  delete (turn: Waiting): void {
    this.#turns.delete(turn)
  }

  /** The server begins to close. */
  close (error: Error): void {
    this.#closing = error
    for (const turn of this.#turns) turn.refuse(error)
  }
}
