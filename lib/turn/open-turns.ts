/** The turns of one server that are identified and not over: counted, waited for, and told when the server closes. */
export class OpenTurns {
  #count = 0
  #waiting: Array<() => void> = []
  /** of the turns whose `signal` was read */
  readonly #controllers = new Set<AbortController>()
  #closing: Error | undefined

  get count (): number {
    return this.#count
  }

  begun (): void {
    this.#count++
  }

  /** The turn is over, and its save, successful or not, is done. */
  over (): void {
    this.#count--
    if (this.#count > 0) return
    for (const resolve of this.#waiting) resolve()
    this.#waiting = []
  }

  /** Aborts a controller when the server closes. */
  abortOnClose (controller: AbortController): void {
    if (this.#closing !== undefined) controller.abort(this.#closing)
    else this.#controllers.add(controller)
  }

  forget (controller: AbortController): void {
    this.#controllers.delete(controller)
  }

  /** The server begins to close. */
  close (reason: Error): void {
    this.#closing = reason
    for (const controller of this.#controllers) controller.abort(reason)
    this.#controllers.clear()
  }

  /** Resolves when none is open. */
  async none (): Promise<void> {
    if (this.#count > 0) await new Promise<void>((resolve) => { this.#waiting.push(resolve) })
  }
}
