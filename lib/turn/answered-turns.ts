/** A turn, as the next message of the same client sees it. */
export interface AnswerableTurn {
  /** Whether its client may have the whole reply. */
  readonly isAnswered: boolean
  /** Calls back when it is over and saved. */
  whenOver(callback: () => void): void
  /** Does not call back any more. */
  notWhenOver(callback: () => void): void
}

const NONE: AnswerableTurn[] = []

/**
 * The open turns of a storage, by the keys of their documents. A client that has its reply may send the next message
 * before the turn is over: over TLS Node reads the next request before it says that a response is finished, and a handler
 * may go on after its reply.
 */
export class AnsweredTurns {
  readonly #turns = new Map<string, AnswerableTurn[]>()

  add (keys: string[], turn: AnswerableTurn): void {
    for (const key of keys) {
      const turns = this.#turns.get(key)
      if (turns === undefined) this.#turns.set(key, [turn])
      else turns.push(turn)
    }
  }

  /** @param turn one that was added with these keys */
  remove (keys: string[], turn: AnswerableTurn): void {
    for (const key of keys) {
      const turns = this.#turns.get(key) as AnswerableTurn[]
      // Empty the list before it is dropped: a former table of the Map keeps it reachable for a while, see KeyedQueue.
      if (turns.length === 1) turns.pop()
      else turns.splice(turns.indexOf(turn), 1)
      if (turns.length === 0) this.#turns.delete(key)
    }
  }

  /** Whether there is a turn on these keys that is answered and not over. */
  has (keys: string[]): boolean {
    return keys.some((key) => this.#on(key).some(({ isAnswered }) => isAnswered))
  }

  /** Resolves when all turns on these keys that are answered by now are over, or when that takes too long. */
  over (keys: string[], milliseconds: number): Promise<void> {
    const answered = new Set(keys.flatMap((key) => this.#on(key).filter(({ isAnswered }) => isAnswered)))
    return new Promise((resolve) => {
      const goOn = (): void => {
        clearTimeout(timer)
        for (const turn of answered) turn.notWhenOver(onOver)
        resolve()
      }
      let left = answered.size
      const onOver = (): void => { if (--left === 0) goOn() }
      const timer = setTimeout(goOn, milliseconds)
      for (const turn of answered) turn.whenOver(onOver)
    })
  }

  #on (key: string): AnswerableTurn[] {
    return this.#turns.get(key) ?? NONE
  }
}
