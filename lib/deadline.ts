/** A time at which somebody gives up waiting. */
export class Deadline {
  #expired = false
  #controller: AbortController | undefined

  get expired (): boolean {
    return this.#expired
  }

  /** Aborted at the deadline. Made when it is first asked for: most work is done before anybody does. */
  get signal (): AbortSignal {
    this.#controller ??= new AbortController()
    if (this.#expired) this.#controller.abort()
    return this.#controller.signal
  }

  /** The time has come. */
  expire (): void {
    this.#expired = true
    this.#controller?.abort()
  }
}

/**
 * Settles as `work` does, or rejects with a plain error when that takes longer than `milliseconds`. The work itself
 * goes on and its outcome is then ignored.
 */
export async function withDeadline<Result> (
  work: (deadline: Deadline) => Promise<Result>, milliseconds: number
): Promise<Result> {
  const deadline = new Deadline()
  let timer: NodeJS.Timeout | undefined
  const expired = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      deadline.expire()
      // Work that heeds the signal can tell what it was waiting for.
      setImmediate(() => reject(new Error(`no answer within ${milliseconds} ms`)))
    }, milliseconds)
  })
  try {
    return await Promise.race([work(deadline), expired])
  } finally {
    clearTimeout(timer)
  }
}
