import { FST_BOTAS_STATE_REPLACED, FST_BOTAS_STATE_SAVE_FAILED } from '../errors.js'
import type { DocumentChange, DocumentStore, SaveOutcome, TurnEnd } from '../storage/document-store.js'
import type { KeyedQueue } from '../waiting/keyed-queue.js'
import { isAboutDocument } from './about-document.js'
import { busy } from './overlap/busy.js'
import type { Operation } from './telemetry.js'

/** What one turn makes of one document that it was loaded with. */
export type DocumentEdit = Omit<DocumentChange, 'isSaved'>

/**
 * Saves what a turn changed, after every earlier save of the same keys.
 *
 * @param end of a turn that holds something in the storage
 * @param operation is told of the outcome
 * @returns whether another turn was at work meanwhile, whose changes were merged
 * @throws FST_BOTAS_STATE_SAVE_FAILED saying which keys were saved and which were not, `cause` is the first error; or
 *   FST_BOTAS_STATE_REPLACED or FST_BOTAS_STATE_BUSY where the storage refused the turn
 */
export async function save (
  store: DocumentStore, queue: KeyedQueue, edits: DocumentEdit[], operation: Operation, end?: TurnEnd
): Promise<{ isOverlapped: boolean }> {
  const changes = edits.map((edit) => inTime(edit, operation))
  let outcome: SaveOutcome
  try {
    outcome = await queue.run(operation.keys, (turn) => operation.inTime(saveInTurn(store, changes, operation, turn, end)))
  } catch (cause) {
    const error = errorOf(cause, changes)
    operation.failed(error, savedOf(changes))
    throw error
  }
  const refusal = refusalOf(outcome)
  if (refusal === undefined) operation.succeeded()
  else {
    operation.failed(refusal, savedOf(changes))
    throw refusal
  }
  return { isOverlapped: outcome === 'overlapped' }
}

/** The keys of those that were saved. */
function savedOf (changes: DocumentChange[]): string[] {
  return changes.filter(({ isSaved }) => isSaved).map(({ key }) => key)
}

function errorOf (cause: unknown, changes: DocumentChange[]): Error {
  const saved = changes.filter(({ isSaved }) => isSaved)
  if (saved.length === 0 && isAboutDocument(cause)) return cause
  return new FST_BOTAS_STATE_SAVE_FAILED(list(saved), list(changes.filter(({ isSaved }) => !isSaved)), { cause })
}

function refusalOf (outcome: SaveOutcome): Error | undefined {
  if (outcome === 'replaced') return new FST_BOTAS_STATE_REPLACED()
  if (outcome === 'handled') return busy('another delivery of the activity was saved first, so that nothing of this one is')
}

async function saveInTurn (
  store: DocumentStore, changes: DocumentChange[], operation: Operation, turn: Promise<void> | undefined, end: TurnEnd | undefined
): Promise<SaveOutcome> {
  if (turn !== undefined) await turn
  operation.assertPending()
  return store.save(changes, operation, end)
}

/** A storage may ask for an edit late, and more than once. */
function inTime ({ key, loaded, edit, forgets }: DocumentEdit, operation: Operation): DocumentChange {
  return {
    key,
    loaded,
    forgets,
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
