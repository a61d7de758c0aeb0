import type { EditDocument, StateDocument } from '../document/document.js'
import { ObjectDocument } from '../document/object-document.js'
import { type DocumentChange, type DocumentStore, type SaveOutcome, type TurnEnd, noteOutcome, readApart, saveEach } from './document-store.js'
import { commitHeld, foreignHolds, saveHeld } from './foreign-holds.js'
import type { Storage, StorageCall } from './storage.js'

/** How turns ask a storage that is known by its public contract only. */
export function foreignStore (storage: Storage): DocumentStore {
  const holds = foreignHolds(storage, (keys, call) => readDocuments(storage, keys, call))
  return {
    load: (keys, call) => readDocuments(storage, keys, call),
    save: (changes, call, end) => storage.commit === undefined
      ? saveHeld(storage, end, call, () => saveChanges(storage, changes, call))
      : commitAll(storage, changes, call, end),
    ...(holds === undefined ? {} : { holds })
  }
}

function saveChanges (storage: Storage, changes: DocumentChange[], call: StorageCall): Promise<'saved'> {
  return storage.update === undefined
    ? replaceAll(storage, changes, call)
    : saveEach(changes, async (change) => {
      const { key, edit } = change
      const loaded = change.loaded as ObjectDocument | undefined
      // Only a turn that cleared it has a change of a corrupt document, and no use for what is in it.
      if (loaded?.isCorrupt === true) return replaceAll(storage, [change], call)
      await storage.update?.(key, (current) => editStored(edit, current, key), loaded?.object, call)
    })
}

/** All documents in one step, with what the turn holds. */
async function commitAll (storage: Storage, changes: DocumentChange[], call: StorageCall, end: TurnEnd | undefined): Promise<SaveOutcome> {
  return noteOutcome(changes, await commitHeld(storage, changes.map(({ key, edit, loaded }) => ({
    key,
    change: (current: StateDocument | undefined) => editStored(edit, current, key),
    loaded: (loaded as ObjectDocument | undefined)?.isCorrupt === true ? undefined : (loaded as ObjectDocument | undefined)?.object
  })), call, end))
}

function editStored (edit: EditDocument, current: StateDocument | undefined, key: string): StateDocument | undefined {
  return editObject(edit, current == null ? undefined : new ObjectDocument(current, key))
}

/** The documents that a storage reads by its public method. */
function readDocuments (storage: Storage, keys: string[], call: StorageCall): Promise<Array<ObjectDocument | undefined>> {
  return readApart(keys, async (keys) => {
    const found = await storage.read([...keys], call)
    return keys.map((key) => Object.hasOwn(found, key) && found[key] !== undefined ? new ObjectDocument(found[key], key) : undefined)
  }, (error, key) => {
    if ((error as { code?: unknown }).code !== 'FST_BOTAS_STATE_CORRUPT_DOCUMENT') throw error
    return new ObjectDocument(error, key)
  })
}

function editObject (edit: EditDocument, document: ObjectDocument | undefined): Record<string, unknown> | undefined {
  return ObjectDocument.edited(document, edit(document))
}

/** Replaces whole documents by what the turn made of those it was loaded with: the last write wins. */
async function replaceAll (storage: Storage, changes: DocumentChange[], call: StorageCall): Promise<'saved'> {
  const edited = changes.map(({ key, edit, loaded }) => [key, editObject(edit, loaded as ObjectDocument | undefined)] as const)
  const written = edited.filter(([, document]) => document !== undefined)
  const deleted = edited.filter(([, document]) => document === undefined).map(([key]) => key)
  const note = (keys: readonly string[]): void => { for (const change of changes) if (keys.includes(change.key)) change.isSaved = true }
  if (written.length > 0) {
    await storage.write(Object.fromEntries(written), call)
    note(written.map(([key]) => key))
  }
  if (deleted.length > 0) {
    call.signal.throwIfAborted()
    await storage.delete(deleted, call)
    note(deleted)
  }
  return 'saved'
}
