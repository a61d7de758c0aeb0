/** A turn, as the next message of the same client sees it. */
export interface AnswerableTurn {
  /** Whether its client may have the whole reply. */
  readonly isAnswered: boolean
  /** Calls back when it is over and saved. */
  whenOver(callback: () => void): void
}

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

  remove (keys: string[], turn: AnswerableTurn): void {
    for (const key of keys) {
      const turns = this.#turns.get(key)
      if (turns === undefined) continue
      // Emptied also where the key goes: see KeyQueue.
      if (turns.length === 1) turns.pop()
      else turns.splice(turns.indexOf(turn), 1)
      if (turns.length === 0) this.#turns.delete(key)
    }
  }

  /** Whether there is a turn on these keys that is answered and not over. */
  has (keys: string[]): boolean {
    return keys.some((key) => this.#turns.get(key)?.some(({ isAnswered }) => isAnswered))
  }

  /** Resolves when all turns on these keys that are answered by now are over. */
  async over (keys: string[]): Promise<void> {
    const answered = keys.flatMap((key) => this.#turns.get(key)?.filter(({ isAnswered }) => isAnswered) ?? [])
    await Promise.all(answered.map((turn) => new Promise<void>((resolve) => turn.whenOver(resolve))))
  }
}
