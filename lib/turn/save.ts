import type { Document, EditDocument } from '../document/document.js'
import { FST_BOTAS_STATE_SAVE_FAILED } from '../errors.js'
import type { DocumentChange, DocumentStore } from '../storage/document-store.js'
import type { KeyedQueue } from '../waiting/keyed-queue.js'
import type { Operation } from './telemetry.js'

/** What one turn makes of one document that it was loaded with. */
export interface DocumentEdit {
  key: string
  loaded: Document | undefined
  edit: EditDocument
}

/**
 * Saves what a turn changed, after every earlier save of the same keys.
 *
 * @param operation is told of the outcome
 * @throws FST_BOTAS_STATE_SAVE_FAILED saying which keys were saved and which were not; `cause` is the first error
 */
export async function save (store: DocumentStore, queue: KeyedQueue, edits: DocumentEdit[], operation: Operation): Promise<void> {
  const changes: DocumentChange[] = edits.map(({ key, loaded, edit }) => ({
    key,
    loaded,
    edit: (current) => {
      if (operation.expired) throw givenUp()
      return edit(current)
    },
    isSaved: false
  }))
  const saveInTurn = async (turn: Promise<void>): Promise<void> => {
    await turn
    if (operation.expired) throw givenUp()
    await store.save(changes, operation)
  }
  try {
    await queue.run(operation.keys, (turn) => operation.inTime(saveInTurn(turn)))
    operation.succeeded()
  } catch (cause) {
    const error = new FST_BOTAS_STATE_SAVE_FAILED(
      list(changes.filter(({ isSaved }) => isSaved)), list(changes.filter(({ isSaved }) => !isSaved)), { cause })
    operation.failed(error)
    throw error
  }
}

/** A save that was reported as failed begins nothing more; what it has sent to the storage it cannot take back. */
function givenUp (): Error {
  return new Error('the flush was given up')
}

function list (changes: DocumentChange[]): string {
  return changes.length === 0 ? 'none' : changes.map(({ key }) => `"${key}"`).join(', ')
}
