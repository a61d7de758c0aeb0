import type { OutageObserver } from './storage.js'

/** How many reasons of one outage are told. */
const MAX_REASONS = 3

/** The outage that is going on, if there is one, and who is told of it. */
export class Outage {
  readonly #observers = new Set<OutageObserver>()
  #reasons: Error[] = []

  get isGoingOn (): boolean {
    return this.#reasons.length > 0
  }

  /** The first reason of the one that is going on. */
  get reason (): string | undefined {
    return this.#reasons[0]?.message
  }

  get isWatched (): boolean {
    return this.#observers.size > 0
  }

  /** Tells of every outage, also of the one that is going on. */
  watch (observer: OutageObserver): () => void {
    this.#observers.add(observer)
    for (const reason of this.#reasons) observer.down(reason)
    return () => this.#observers.delete(observer)
  }

  /** One has begun, or has one more reason by now. Each is told once. */
  begin (reason: Error): void {
    if (this.#reasons.length >= MAX_REASONS) return
    if (this.#reasons.some(({ message }) => withoutNumbers(message) === withoutNumbers(reason.message))) return
    this.#reasons.push(reason)
    for (const observer of this.#observers) observer.down(reason)
  }

  end (): void {
    if (!this.isGoingOn) return
    this.#reasons = []
    for (const observer of this.#observers) observer.up()
  }
}

/** Messages that differ only in numbers, such as attempts and ports, are one reason. */
function withoutNumbers (message: string): string {
  return message.replace(/\d+/g, '')
}
