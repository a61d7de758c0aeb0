import { withDeadline } from '../waiting/deadline.js'
import type { StorageCall } from './storage.js'

/**
 * Looks at what is stored, and leaves it as it is: also how long it lives, and what is counted.
 *
 * @param timeout how long that may take, in milliseconds: a storage may ignore that nobody waits any more
 * @throws where it takes longer, and what `work` throws
 */
export function look<Result> (timeout: number, work: (call: StorageCall) => Promise<Result>): Promise<Result> {
  const controller = new AbortController()
  return withDeadline(work({ signal: controller.signal, timeout, renews: false, retrying () {} }), timeout, () => controller.abort())
}
