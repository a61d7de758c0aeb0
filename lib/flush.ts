import type { ChangeDocument, LoadedDocument, StateDocument } from './document.js'
import { FST_BOTAS_STATE_SAVE_FAILED } from './errors.js'
import type { KeyQueue } from './key-queue.js'
import type { Operation } from './operations.js'
import type { DirectAccess } from './storage/direct-access.js'
import type { Storage } from './storage/storage.js'

/** What one turn makes of one document. */
export interface DocumentChange {
  key: string
  change: ChangeDocument
  loaded: LoadedDocument | undefined
}

/**
 * Writes what a turn changed, after every earlier flush of the same keys.
 *
 * @param direct how the documents were read, if that was done directly
 * @param operation is told of the outcome
 * @returns nothing where it could be done at once
 * @throws FST_BOTAS_STATE_SAVE_FAILED saying which keys were saved and which were not; `cause` is the first error
 */
export function flush (
  storage: Storage, direct: DirectAccess | undefined, queue: KeyQueue, changes: DocumentChange[], operation: Operation
): Promise<void> | undefined {
  const { keys } = operation
  const flush: Flush = { storage, direct, changes, saved: [], operation }
  if (queue.isBusy(keys)) {
    return reported(flush, queue.run(keys, (turn) => operation.inTime(turn.then(() => save(flush)))))
  }
  const saving = save(flush)
  if (saving !== undefined) return reported(flush, queue.run(keys, () => operation.inTime(saving)))
  operation.succeeded()
}

interface Flush {
  storage: Storage
  direct: DirectAccess | undefined
  changes: DocumentChange[]
  /** the keys that were saved so far */
  saved: string[]
  operation: Operation
}

async function reported ({ saved, operation }: Flush, saving: Promise<void>): Promise<void> {
  try {
    await saving
    operation.succeeded()
  } catch (cause) {
    const unsaved = operation.keys.filter((key) => !saved.includes(key))
    const error = new FST_BOTAS_STATE_SAVE_FAILED(list(saved), list(unsaved), { cause })
    operation.failed(error)
    throw error
  }
}

function save (flush: Flush): Promise<void> | undefined {
  if (flush.operation.expired) return Promise.reject(givenUp())
  return flush.storage.update === undefined ? saveWhole(flush) : saveChanged(flush)
}

/** Changes each document where it is, together with what other turns did to it meanwhile. */
function saveChanged (flush: Flush): Promise<void> | undefined {
  let pending: Array<Promise<unknown>> | undefined
  for (const change of flush.changes) {
    try {
      const saving = saveOne(flush, change)
      if (saving === undefined) flush.saved.push(change.key)
      else (pending ??= []).push(saving.then(() => flush.saved.push(change.key)))
    } catch (error) {
      (pending ??= []).push(Promise.reject(error))
    }
  }
  return pending && allDone(pending)
}

function saveOne (
  { storage, direct, operation }: Flush, { key, change, loaded }: DocumentChange
): Promise<void> | void {
  const changeInTime: ChangeDocument = (current) => {
    if (operation.expired) throw givenUp()
    return change(current)
  }
  return direct === undefined
    ? storage.update?.(key, changeInTime, loaded?.document, operation)
    : direct.update(storage, key, changeInTime, loaded, operation)
}

/** Resolves when all is done, or rejects then with the first error. */
function allDone (pending: Array<Promise<unknown>>): Promise<void> {
  return new Promise((resolve, reject) => {
    let left = pending.length
    let failure: { error: unknown } | undefined
    const done = (): void => {
      if (--left > 0) return
      if (failure === undefined) resolve()
      else reject(failure.error)
    }
    const failed = (error: unknown): void => {
      failure ??= { error }
      done()
    }
    for (const one of pending) one.then(done, failed)
  })
}

/** Replaces whole documents by what the turn made of those it was loaded with: the last write wins. */
async function saveWhole (flush: Flush): Promise<void> {
  const { storage, changes, saved, operation } = flush
  const written: Record<string, StateDocument> = {}
  const deleted: string[] = []
  for (const { key, change, loaded } of changes) {
    const document = change(loaded?.document)
    if (document === undefined) deleted.push(key)
    else written[key] = document
  }
  const writtenKeys = Object.keys(written)
  if (writtenKeys.length > 0) {
    await storage.write(written, operation)
    saved.push(...writtenKeys)
  }
  if (deleted.length > 0) {
    if (operation.expired) throw givenUp()
    await storage.delete(deleted, operation)
    saved.push(...deleted)
  }
}

/** A flush that was reported as failed begins nothing more; what it has sent to the storage it cannot take back. */
function givenUp (): Error {
  return new Error('the flush was given up')
}

function list (keys: string[]): string {
  return keys.length === 0 ? 'none' : keys.map((key) => `"${key}"`).join(', ')
}
