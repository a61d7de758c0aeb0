import type { KeyedQueue } from '../waiting/keyed-queue.js'
import type { StorageCall } from './storage.js'

/**
 * Works after everything in the queue that is about one of these keys.
 *
 * @throws without having begun where nobody waits any more
 */
export function inTurn<Result> (queue: KeyedQueue, keys: string[], call: StorageCall | undefined, work: () => Promise<Result>): Promise<Result> {
  return queue.run(keys, async (turn) => {
    if (turn !== undefined) {
      await turn
      call?.signal.throwIfAborted()
    }
    return work()
  })
}
