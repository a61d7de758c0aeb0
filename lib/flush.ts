import { type Deadline, withDeadline } from './deadline.js'
import type { ChangeDocument, StateDocument } from './document.js'
import { FST_BOTAS_STATE_SAVE_FAILED } from './errors.js'
import type { KeyQueue } from './key-queue.js'
import { storageCall } from './operations.js'
import type { Storage, StorageCall } from './storage/storage.js'

/** What one turn makes of one document. */
export interface DocumentChange {
  key: string
  change: ChangeDocument
  /** what the turn was loaded with */
  loaded: StateDocument | undefined
}

/**
 * Writes what a turn changed, after every earlier flush of the same keys.
 *
 * @param timeout in milliseconds, from now on; then the flush is given up
 * @param retrying is called whenever the storage tries again
 * @throws FST_BOTAS_STATE_SAVE_FAILED saying which keys were saved and which were not; `cause` is the first error
 */
export async function flush (
  storage: Storage, queue: KeyQueue, changes: DocumentChange[], timeout: number, retrying: () => void
): Promise<void> {
  const saved = new Set<string>()
  const keys = changes.map(({ key }) => key)
  try {
    await queue.run(keys, (turn) => withDeadline(async (deadline) => {
      await turn
      await save({ storage, changes, saved, deadline, call: storageCall(deadline, retrying) })
    }, timeout))
  } catch (cause) {
    const unsaved = keys.filter((key) => !saved.has(key))
    throw new FST_BOTAS_STATE_SAVE_FAILED(list([...saved]), list(unsaved), { cause })
  }
}

interface Flush {
  storage: Storage
  changes: DocumentChange[]
  /** the keys that were saved so far */
  saved: Set<string>
  deadline: Deadline
  call: StorageCall
}

async function save (flush: Flush): Promise<void> {
  assertNotGivenUp(flush)
  await (flush.storage.update === undefined ? saveWhole(flush) : saveChanged(flush))
}

/** Changes each document where it is, together with what other turns did to it meanwhile. */
async function saveChanged (flush: Flush): Promise<void> {
  const outcomes = await Promise.allSettled(flush.changes.map(async ({ key, change, loaded }) => {
    await flush.storage.update?.(key, (current) => {
      assertNotGivenUp(flush)
      return change(current)
    }, loaded, flush.call)
    flush.saved.add(key)
  }))
  const failure = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failure !== undefined) throw failure.reason
}

/** Replaces whole documents by what the turn made of those it was loaded with: the last write wins. */
async function saveWhole (flush: Flush): Promise<void> {
  const { storage, changes, saved, call } = flush
  const written: Record<string, StateDocument> = {}
  const deleted: string[] = []
  for (const { key, change, loaded } of changes) {
    const document = change(loaded)
    if (document === undefined) deleted.push(key)
    else written[key] = document
  }
  const writtenKeys = Object.keys(written)
  if (writtenKeys.length > 0) {
    await storage.write(written, call)
    for (const key of writtenKeys) saved.add(key)
  }
  if (deleted.length > 0) {
    assertNotGivenUp(flush)
    await storage.delete(deleted, call)
    for (const key of deleted) saved.add(key)
  }
}

/** A flush that was reported as failed begins nothing more; what it has sent to the storage it cannot take back. */
function assertNotGivenUp ({ deadline }: Flush): void {
  if (deadline.expired) throw new Error('the flush was given up')
}

function list (keys: string[]): string {
  return keys.length === 0 ? 'none' : keys.map((key) => `"${key}"`).join(', ')
}
