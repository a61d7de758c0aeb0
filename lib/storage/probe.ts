/** How often a server is asked that is out of reach, at first and at last, in milliseconds. */
const MIN_INTERVAL = 50
const MAX_INTERVAL = 400

/** Asks a server whether it answers again, one question at a time, for as long as somebody wants to know. Keeps no process alive. */
export class Probe {
  readonly #isWanted: () => boolean
  readonly #ask: () => Promise<void>
  #timer: NodeJS.Timeout | undefined

  constructor (isWanted: () => boolean, ask: () => Promise<void>) {
    this.#isWanted = isWanted
    this.#ask = ask
  }

  /** Where it has begun already, it goes on. */
  begin (interval = MIN_INTERVAL): void {
    if (!this.#isWanted()) return
    this.#timer ??= setTimeout(async () => {
      if (this.#isWanted()) await this.#ask()
      this.#timer = undefined
      this.begin(Math.min(interval * 2, MAX_INTERVAL))
    }, interval).unref()
  }
}
