import { performance } from 'node:perf_hooks'
import { setImmediate } from 'node:timers'

/**
 * Settles as `work` does, or rejects with a plain error when that takes longer than `milliseconds`. The work itself
 * goes on and its outcome is then ignored.
 *
 * @param expire is called then; if it makes `work` reject at once, that more precise error wins
 */
export function withDeadline<Result> (work: Promise<Result>, milliseconds: number, expire?: () => void): Promise<Result> {
  return new Promise((resolve, reject) => {
    const deadlines = deadlinesOf(milliseconds)
    const deadline = deadlines.begin(() => {
      expire?.()
      setImmediate(() => reject(new Error(`no answer within ${milliseconds} ms`)))
    })
    work.then((result) => {
      deadlines.end(deadline)
      resolve(result)
    }, (error) => {
      deadlines.end(deadline)
      reject(error)
    })
  })
}

interface Deadline {
  /** as `performance.now` has it */
  at: number
  /** nothing once it is met, see `KeyedQueue` */
  passed: (() => void) | undefined
}

/** Deadlines of the same length: they pass in the order in which they begin, so that one timer does for all of them. */
class Deadlines {
  readonly #milliseconds: number
  readonly #pending = new Set<Deadline>()
  /** is left running when its deadline is met: the next one to come soon needs no new timer */
  #timer: NodeJS.Timeout | undefined
  /** whether the timer keeps the process alive, as long as deadlines are pending */
  #isHolding = false
  #isLettingGo = false

  constructor (milliseconds: number) {
    this.#milliseconds = milliseconds
  }

  begin (passed: () => void): Deadline {
    const deadline = { at: performance.now() + this.#milliseconds, passed }
    this.#pending.add(deadline)
    this.#timer ??= setTimeout(() => this.#onTime(), this.#milliseconds)
    if (!this.#isHolding) {
      this.#isHolding = true
      this.#timer.ref()
    }
    return deadline
  }

  end (deadline: Deadline): void {
    deadline.passed = undefined
    this.#pending.delete(deadline)
    if (this.#pending.size === 0 && !this.#isLettingGo) {
      this.#isLettingGo = true
      setImmediate(() => this.#letGo())
    }
  }

  /** Not with every deadline that ends: the next one begins in a moment. */
  #letGo (): void {
    this.#isLettingGo = false
    if (this.#pending.size > 0) return
    this.#isHolding = false
    this.#timer?.unref()
  }

  #onTime (): void {
    this.#timer = undefined
    const now = performance.now()
    const due: Deadline[] = []
    for (const deadline of this.#pending) {
      if (deadline.at > now) {
        this.#timer = setTimeout(() => this.#onTime(), deadline.at - now)
        break
      }
      this.#pending.delete(deadline)
      due.push(deadline)
    }
    for (const { passed } of due) passed?.()
  }
}

const byLength = new Map<number, Deadlines>()

function deadlinesOf (milliseconds: number): Deadlines {
  let deadlines = byLength.get(milliseconds)
  if (deadlines === undefined) {
    deadlines = new Deadlines(milliseconds)
    byLength.set(milliseconds, deadlines)
  }
  return deadlines
}
