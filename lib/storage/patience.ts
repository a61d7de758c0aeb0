import { setMaxListeners } from 'node:events'

/** That somebody waits for a command, and for how long. */
export class Patience {
  #reason: Error | undefined
  #controller: AbortController | undefined
  #onEnd: (() => void) | undefined

  /** Why nobody waits any more. */
  get ended (): Error | undefined {
    return this.#reason
  }

  /** Aborted when nobody waits any more. A signal is costly, and made when it is first read. */
  get signal (): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      // A command may be many requests.
      setMaxListeners(0, this.#controller.signal)
    }
    if (this.#reason !== undefined) this.#controller.abort(this.#reason)
    return this.#controller.signal
  }

  /** Calls this one when nobody waits any more, in place of what was given before. */
  onEnd (callback: () => void): void {
    this.#onEnd = callback
  }

  end (reason: Error): void {
    if (this.#reason !== undefined) return
    this.#reason = reason
    this.#controller?.abort(reason)
    this.#onEnd?.()
  }
}
