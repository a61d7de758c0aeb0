/** Waits for all, so that nothing is under way any more, and throws the first error. */
export async function settledAll (works: Array<Promise<unknown>>): Promise<void> {
  await Promise.allSettled(works)
  await Promise.all(works)
}
