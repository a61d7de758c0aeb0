/** Work on some keys. */
interface Entry {
  /**
   * Resolves when it is over; nothing from then on. A Map or Set that changes all the time leaves its former tables to the
   * garbage collector, each of which keeps the next one and all that was in it, until all are collected together:
   * https://github.com/v8/v8/blob/13.6.1/src/objects/ordered-hash-table.h
   */
  over: Promise<unknown> | undefined
}

/** Work on keys, one after another for each key and side by side for different ones. An idle key takes no memory. */
export class KeyedQueue {
  readonly #last = new Map<string, Entry>()

  /** Whether there is work on one of these keys. */
  isBusy (keys: string[]): boolean {
    return this.#last.size > 0 && keys.some((key) => this.#last.has(key))
  }

  /** Resolves when all work on these keys that was queued by now is over. Never rejects. */
  async settled (keys: string[]): Promise<void> {
    await Promise.all(keys.map((key) => this.#last.get(key)?.over))
  }

  /**
   * Queues work on several keys at once.
   *
   * @param work gets the promise of its turn, so that it can also give up before that; nothing where it is its turn now
   */
  run<Result> (keys: string[], work: (turn: Promise<void> | undefined) => Promise<Result>): Promise<Result> {
    const turn = this.isBusy(keys) ? this.settled(keys) : undefined
    const result = work(turn)
    const entry: Entry = { over: undefined }
    const release = (): void => {
      entry.over = undefined
      for (const key of keys) {
        if (this.#last.get(key) === entry) this.#last.delete(key)
      }
    }
    // Work that gave up before its turn does not make room for the next: what is before it is still under way.
    entry.over = (turn === undefined ? result : Promise.allSettled([turn, result])).then(release, release)
    for (const key of keys) this.#last.set(key, entry)
    return result
  }
}
