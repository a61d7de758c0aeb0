/** The promises that keep a turn open when its handler is done. */
export class KeptOpen {
  #pending = 0
  #callbacks: Array<() => void> = []

  get isOpen (): boolean {
    return this.#pending > 0
  }

  /** @param onRejected is called before the promise counts as settled */
  add (promise: PromiseLike<unknown>, onRejected: (error: unknown) => void): void {
    const settled = (): void => {
      this.#pending--
      if (this.#pending > 0) return
      const callbacks = this.#callbacks
      this.#callbacks = []
      for (const callback of callbacks) callback()
    }
    Promise.resolve(promise).then(settled, (error) => {
      onRejected(error)
      settled()
    })
    this.#pending++
  }

  /** Calls back when all have settled. */
  whenSettled (callback: () => void): void {
    this.#callbacks.push(callback)
  }
}
