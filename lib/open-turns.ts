/** The turns of one server that are identified and not over: counted, and waited for. */
export class OpenTurns {
  #count = 0
  #waiting: Array<() => void> = []

  get count (): number {
    return this.#count
  }

  begun (): void {
    this.#count++
  }

  /** The turn is over, and its flush, successful or not, is done. */
  over (): void {
    this.#count--
    if (this.#count > 0) return
    for (const resolve of this.#waiting) resolve()
    this.#waiting = []
  }

  /** Resolves when none is open. */
  async none (): Promise<void> {
    if (this.#count > 0) await new Promise<void>((resolve) => { this.#waiting.push(resolve) })
  }
}
