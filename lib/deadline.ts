/**
 * Settles as `work` does, or rejects with a plain error when that takes longer than `milliseconds`. The work itself
 * goes on and its outcome is then ignored.
 */
export async function withDeadline<Result> (work: Promise<Result>, milliseconds: number): Promise<Result> {
  let timer: NodeJS.Timeout | undefined
  const expired = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${milliseconds} ms`)), milliseconds)
  })
  try {
    return await Promise.race([work, expired])
  } finally {
    clearTimeout(timer)
  }
}
