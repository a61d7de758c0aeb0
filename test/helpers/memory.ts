import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
const collect: () => void = runInNewContext('gc')

/** What is in use after all that is not has been collected, in bytes. */
export function memoryInUse (): number {
  collect()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}
