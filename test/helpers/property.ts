import { setTimeout as wait } from 'node:timers/promises'
import fc from 'fast-check'

/** How long the shortest value that fails is looked for, in milliseconds. */
const SEARCH = 10_000

/**
 * A property whose failure is told soon: a run that hangs fails, and the search for a shorter one that fails is given up.
 *
 * @param limit the milliseconds that a run may take
 */
export function promptProperty<Value> (arbitrary: fc.Arbitrary<Value>, check: (value: Value) => Promise<void>, limit = 10_000) {
  let searchEnds = Infinity
  return fc.asyncProperty(arbitrary, async (value) => {
    // What is not tried any more counts as passed: the shortest failure so far is reported.
    if (performance.now() > searchEnds) return
    try {
      await within(limit, check(value))
    } catch (error) {
      if (!fc.PreconditionFailure.isFailure(error)) searchEnds = Math.min(searchEnds, performance.now() + SEARCH)
      throw error
    }
  })
}

async function within (limit: number, work: Promise<void>): Promise<void> {
  const over = new AbortController()
  const tooLate = wait(limit, undefined, { signal: over.signal }).then(() => { throw new Error(`it was not over after ${limit} ms`) })
  try {
    await Promise.race([work, tooLate])
  } finally {
    tooLate.catch(() => {})
    over.abort()
  }
}
