/** Who waits. */
export interface WaitingTurn {
  /** Ends the waiting. */
  refuse(error: Error): void
}

/** The turns of one server that wait for their place, or for another delivery of their activity. */
export class WaitingTurns {
  readonly #turns = new Set<WaitingTurn>()
  #closing: Error | undefined

  get count (): number {
    return this.#turns.size
  }

  add (turn: WaitingTurn): void {
    this.#turns.add(turn)
    if (this.#closing !== undefined) turn.refuse(this.#closing)
  }

  delete (turn: WaitingTurn): void {
    this.#turns.delete(turn)
  }

  /** The server begins to close. */
  close (error: Error): void {
    this.#closing = error
    for (const turn of this.#turns) turn.refuse(error)
  }
}
