/** What a clock that is told once a second is behind at most, in milliseconds. */
const RESOLUTION = 1000

/**
 * The clock of a server that tells whole seconds with each answer: that of this machine as far as the answers allow it, each of which says
 * between which times it was given. So processes agree whose machines agree; where one does not, it is a second off at most.
 */
export class ServerClock {
  /** what is to be added to `performance.now` at least and at most, in milliseconds */
  #least = -Infinity
  #most = Infinity

  /**
   * @param date that an answer told, in milliseconds since 1970
   * @param asked when it was asked for, as `performance.now` has it
   */
  heard (date: number, asked: number): void {
    const [least, most] = [date - performance.now(), date + RESOLUTION - asked]
    this.#least = Math.max(this.#least, least)
    this.#most = Math.min(this.#most, most)
    // One of the clocks was set, or runs faster.
    if (this.#least > this.#most) [this.#least, this.#most] = [least, most]
  }

  /** Whether an answer has told the time. */
  get isSet (): boolean {
    return this.#most < Infinity
  }

  /** In milliseconds since 1970. */
  now (): number {
    const now = performance.now()
    return Math.min(Math.max(Date.now(), now + this.#least), now + this.#most)
  }
}
