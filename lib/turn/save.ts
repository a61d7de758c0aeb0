import { FST_BOTAS_STATE_SAVE_FAILED } from '../errors.js'
import type { DocumentChange, DocumentStore } from '../storage/document-store.js'
import type { KeyedQueue } from '../waiting/keyed-queue.js'
import type { Operation } from './telemetry.js'

/** What one turn makes of one document that it was loaded with. */
export type DocumentEdit = Pick<DocumentChange, 'key' | 'loaded' | 'edit'>

/**
 * Saves what a turn changed, after every earlier save of the same keys.
 *
 * @param operation is told of the outcome
 * @throws FST_BOTAS_STATE_SAVE_FAILED saying which keys were saved and which were not; `cause` is the first error
 */
export async function save (store: DocumentStore, queue: KeyedQueue, edits: DocumentEdit[], operation: Operation): Promise<void> {
  const changes = edits.map((edit) => inTime(edit, operation))
  try {
    await queue.run(operation.keys, (turn) => operation.inTime(saveInTurn(store, changes, operation, turn)))
    operation.succeeded()
  } catch (cause) {
    const error = new FST_BOTAS_STATE_SAVE_FAILED(
      list(changes.filter(({ isSaved }) => isSaved)), list(changes.filter(({ isSaved }) => !isSaved)), { cause })
    operation.failed(error)
    throw error
  }
}

async function saveInTurn (
  store: DocumentStore, changes: DocumentChange[], operation: Operation, turn: Promise<void> | undefined
): Promise<void> {
  if (turn !== undefined) await turn
  operation.assertPending()
  await store.save(changes, operation)
}

/** A storage may ask for an edit late, and more than once. */
function inTime ({ key, loaded, edit }: DocumentEdit, operation: Operation): DocumentChange {
  return {
    key,
    loaded,
    edit: (current) => {
      operation.assertPending()
      return edit(current)
    },
    isSaved: false
  }
}

function list (changes: DocumentChange[]): string {
  return changes.length === 0 ? 'none' : changes.map(({ key }) => `"${key}"`).join(', ')
}
