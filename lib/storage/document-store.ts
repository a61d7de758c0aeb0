import type { Document, EditDocument } from '../document/document.js'
import { ObjectDocument } from '../document/object-document.js'
import type { Storage, StorageCall } from './storage.js'

/** What a turn makes of one document. */
export interface DocumentChange {
  readonly key: string
  /** what the turn was loaded with */
  readonly loaded: Document | undefined
  readonly edit: EditDocument
  /** set by the storage */
  isSaved: boolean
}

/** The contract between turns and storages. Documents are immutable; `save` gets those that `load` returned. */
export interface DocumentStore {
  /** The documents in the order of their keys. */
  load(keys: string[], call: StorageCall): Promise<Array<Document | undefined>>
  /** Edits documents where they are. Settles when nothing more is under way, and rejects then with the first error. */
  save(changes: DocumentChange[], call: StorageCall): Promise<void>
}

/** How the storages of a class are asked, on its prototype. */
const kProvided = Symbol('fastify-botas-state.document-store')

interface Provided<S extends Storage = Storage> {
  prototype: S
  open: (storage: S) => DocumentStore
}

const METHODS = ['read', 'write', 'delete', 'update'] as const

/** Says how turns ask the storages of a class of this package. */
export function provideDocumentStore<S extends Storage> (prototype: S, open: (storage: S) => DocumentStore): void {
  Object.defineProperty(prototype, kProvided, { value: { prototype, open } satisfies Provided<S> })
}

/** How turns ask a storage. One that overrides a method, such as a subclass or a wrapper, is asked by its public methods. */
export function documentStoreOf (storage: Storage): DocumentStore {
  const provided = (storage as { [kProvided]?: Provided })[kProvided]
  const isProvided = provided !== undefined && METHODS.every((method) => storage[method] === provided.prototype[method])
  return isProvided ? provided.open(storage) : foreignStore(storage)
}

/** Saves documents side by side. Settles when all is done, and rejects then with the first error. */
export async function saveEach (changes: DocumentChange[], save: (change: DocumentChange) => Promise<void>): Promise<void> {
  const failures: unknown[] = []
  await Promise.all(changes.map((change) => save(change).then(() => { change.isSaved = true }, (error) => { failures.push(error) })))
  if (failures.length > 0) throw failures[0]
}

/**
 * Reads documents; one by one where that fails for a corrupt one, which concerns no other scope than its own.
 *
 * @param corrupted makes the document of a key that could not be read, and throws what is another error
 */
export async function readApart<D extends Document> (
  keys: string[], read: (keys: string[]) => Promise<Array<D | undefined>>, corrupted: (error: unknown, key: string) => D
): Promise<Array<D | undefined>> {
  try {
    return await read(keys)
  } catch (error) {
    const [first, ...others] = keys as [string]
    const document = corrupted(error, first)
    return others.length === 0 ? [document] : (await Promise.all(keys.map((key) => readApart([key], read, corrupted)))).flat()
  }
}

/** A storage that knows no more than its public contract. */
function foreignStore (storage: Storage): DocumentStore {
  return {
    load: (keys, call) => readDocuments(storage, keys, call),
    save: (changes, call) => storage.update === undefined
      ? replaceAll(storage, changes, call)
      : saveEach(changes, async (change) => {
        const { key, edit } = change
        const loaded = change.loaded as ObjectDocument | undefined
        // Only a turn that cleared it has a change of a corrupt document, and no use for what is in it.
        if (loaded?.isCorrupt === true) return replaceAll(storage, [change], call)
        await storage.update?.(key, (current) => editObject(edit, current == null ? undefined : new ObjectDocument(current, key)), loaded?.object, call)
      })
  }
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
async function replaceAll (storage: Storage, changes: DocumentChange[], call: StorageCall): Promise<void> {
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
}
