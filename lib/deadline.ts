/**
 * Settles as `work` does, or rejects with a plain error when that takes longer than `milliseconds`. The work itself
 * goes on and its outcome is then ignored.
 *
 * @param expire is called then. Work that takes notice can still say what it was waiting for.
 */
export function withDeadline<Result> (work: Promise<Result>, milliseconds: number, expire?: () => void): Promise<Result> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      expire?.()
      setImmediate(() => reject(new Error(`no answer within ${milliseconds} ms`)))
    }, milliseconds)
    work.then((result) => {
      clearTimeout(timer)
      resolve(result)
    }, (error) => {
      clearTimeout(timer)
      reject(error)
    })
  })
}
