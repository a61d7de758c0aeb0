import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
/** Collects all garbage, now. */
export const collectGarbage: () => void = runInNewContext('gc')

/** What is in use after all that is not has been collected, in bytes. */
export function memoryInUse (): number {
  collectGarbage()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}
