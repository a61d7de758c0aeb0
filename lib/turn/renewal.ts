import type { Hold, Holds } from '../storage/document-store.js'
import type { StorageCall } from '../storage/storage.js'
import { withDeadline } from '../waiting/deadline.js'

/** How often a turn asks that may be replaced by one of another process, in milliseconds. */
const WATCH_INTERVAL = 100

/** What a turn holds, renewed at a third of its lease; one that may be replaced looks more often whether it was. */
export class Renewal {
  readonly #holds: Holds
  readonly #held: () => Hold
  readonly #lost: () => void
  readonly #timer: NodeJS.Timeout
  /** One that hangs leaves time for another one. In milliseconds. */
  readonly #patience: number
  #current: Promise<void> | undefined
  /** how many the storage was asked for, and has answered */
  #asked = 0
  #answered = 0

  /**
   * @param held what is to be renewed now
   * @param lost is told when another turn has taken the place
   */
  constructor (holds: Holds, held: () => Hold, lost: () => void) {
    const { place, lease } = held()
    this.#holds = holds
    this.#held = held
    this.#lost = lost
    this.#patience = lease / 6
    const interval = place?.isReplaceable === true ? Math.min(WATCH_INTERVAL, lease / 3) : lease / 3
    this.#timer = setInterval(() => { this.#current ??= this.#renew() }, interval).unref()
  }

  async #renew (): Promise<void> {
    this.#asked++
    const answer = this.#holds.renew(this.#held(), callFor(this.#patience)).finally(() => { this.#answered++ })
    // A storage that cannot be reached says nothing of the place.
    const isHeld = await withDeadline(answer, this.#patience).catch(() => true)
    this.#current = undefined
    if (!isHeld) this.#lost()
  }

  /** From now on. Gives a function that tells whether the storage may have renewed it since. */
  watch (): () => boolean {
    const answered = this.#answered
    return () => this.#asked > answered
  }

  /** Resolves when the last one is over, if one is under way. */
  stop (): Promise<void> | undefined {
    clearInterval(this.#timer)
    return this.#current
  }
}

/** Gives back what a turn held, which no renewal may take again. What the storage cannot be told in time, it knows by itself. */
export async function leaveAfter (renewal: Promise<void> | undefined, holds: Holds, hold: Hold): Promise<void> {
  if (renewal !== undefined) await renewal
  await holds.leave(hold, callFor(hold.lease)).catch(() => {})
}

function callFor (milliseconds: number): StorageCall {
  return { signal: AbortSignal.timeout(Math.ceil(milliseconds)), timeout: milliseconds, retrying () {} }
}
