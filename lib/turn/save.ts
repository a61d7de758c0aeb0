import type { ChangeDocument, LoadedDocument } from '../document/document.js'
import { FST_BOTAS_STATE_SAVE_FAILED } from '../errors.js'
import type { KeyedQueue } from '../waiting/keyed-queue.js'
import type { Operation } from './telemetry.js'
import type { DirectAccess } from '../storage/direct-access.js'
import type { Storage } from '../storage/storage.js'

/** What one turn makes of one document. */
export interface DocumentChange {
  key: string
  change: ChangeDocument
  loaded: LoadedDocument | undefined
  saved: boolean
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
  storage: Storage, direct: DirectAccess | undefined, queue: KeyedQueue, changes: DocumentChange[], operation: Operation
): Promise<void> | undefined {
  const { keys } = operation
  const flush: Flush = { storage, direct, changes, operation }
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
  operation: Operation
}

async function reported ({ changes, operation }: Flush, saving: Promise<void>): Promise<void> {
  try {
    await saving
    operation.succeeded()
  } catch (cause) {
    const error = new FST_BOTAS_STATE_SAVE_FAILED(
      list(changes.filter(({ saved }) => saved)), list(changes.filter(({ saved }) => !saved)), { cause })
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
      if (saving === undefined) change.saved = true
      else (pending ??= []).push(saving.then(() => { change.saved = true }))
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
  const { storage, changes, operation } = flush
  const documents = changes.map(({ key, change, loaded }) => [key, change(loaded?.document)] as const)
  const written = documents.filter(([, document]) => document !== undefined)
  const deleted = documents.filter(([, document]) => document === undefined).map(([key]) => key)
  const save = async (keys: readonly string[], saving: () => Promise<void>): Promise<void> => {
    if (operation.expired) throw givenUp()
    await saving()
    for (const change of changes) if (keys.includes(change.key)) change.saved = true
  }
  if (written.length > 0) await save(written.map(([key]) => key), () => storage.write(Object.fromEntries(written), operation))
  if (deleted.length > 0) await save(deleted, () => storage.delete(deleted, operation))
}

/** A flush that was reported as failed begins nothing more; what it has sent to the storage it cannot take back. */
function givenUp (): Error {
  return new Error('the flush was given up')
}

function list (changes: DocumentChange[]): string {
  return changes.length === 0 ? 'none' : changes.map(({ key }) => `"${key}"`).join(', ')
}
