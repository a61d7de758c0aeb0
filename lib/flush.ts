import { withDeadline } from './deadline.js'
import type { ChangeDocument, StateDocument } from './document.js'
import { FST_BOTAS_STATE_SAVE_FAILED } from './errors.js'
import type { KeyQueue } from './key-queue.js'
import type { Storage } from './storage/storage.js'

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
 * @throws FST_BOTAS_STATE_SAVE_FAILED saying which keys were saved and which were not; `cause` is the first error
 */
export async function flush (
  storage: Storage, queue: KeyQueue, changes: DocumentChange[], timeout: number
): Promise<void> {
  const attempt: Attempt = { saved: new Set(), givenUp: false }
  const keys = changes.map(({ key }) => key)
  try {
    await queue.run(keys, (turn) => withDeadline(turn.then(() => save(storage, changes, attempt)), timeout))
  } catch (cause) {
    attempt.givenUp = true
    const unsaved = keys.filter((key) => !attempt.saved.has(key))
    throw new FST_BOTAS_STATE_SAVE_FAILED(list([...attempt.saved]), list(unsaved), { cause })
  }
}

interface Attempt {
  saved: Set<string>
  /** a flush that was reported as failed begins nothing more; what it has sent to the storage it cannot take back */
  givenUp: boolean
}

async function save (storage: Storage, changes: DocumentChange[], attempt: Attempt): Promise<void> {
  assertNotGivenUp(attempt)
  await (storage.update === undefined ? saveWhole(storage, changes, attempt) : saveChanged(storage, changes, attempt))
}

/** Changes each document where it is, together with what other turns did to it meanwhile. */
async function saveChanged (storage: Storage, changes: DocumentChange[], attempt: Attempt): Promise<void> {
  const outcomes = await Promise.allSettled(changes.map(async ({ key, change, loaded }) => {
    await storage.update?.(key, (current) => {
      assertNotGivenUp(attempt)
      return change(current)
    }, loaded)
    attempt.saved.add(key)
  }))
  const failure = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failure !== undefined) throw failure.reason
}

/** Replaces whole documents by what the turn made of those it was loaded with: the last write wins. */
async function saveWhole (storage: Storage, changes: DocumentChange[], attempt: Attempt): Promise<void> {
  const written: Record<string, StateDocument> = {}
  const deleted: string[] = []
  for (const { key, change, loaded } of changes) {
    const document = change(loaded)
    if (document === undefined) deleted.push(key)
    else written[key] = document
  }
  const writtenKeys = Object.keys(written)
  if (writtenKeys.length > 0) {
    await storage.write(written)
    for (const key of writtenKeys) attempt.saved.add(key)
  }
  if (deleted.length > 0) {
    assertNotGivenUp(attempt)
    await storage.delete(deleted)
    for (const key of deleted) attempt.saved.add(key)
  }
}

function assertNotGivenUp (attempt: Attempt): void {
  if (attempt.givenUp) throw new Error('the flush was given up')
}

function list (keys: string[]): string {
  return keys.length === 0 ? 'none' : keys.map((key) => `"${key}"`).join(', ')
}
