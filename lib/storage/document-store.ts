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

/** How turns ask a storage. It gives documents that nobody changes, and gets back the very ones. */
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

/** How turns ask a storage. One whose methods are not those of this package, such as a subclass or a wrapper, is asked by them. */
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

/** A storage that knows no more than its public contract. */
function foreignStore (storage: Storage): DocumentStore {
  return {
    async load (keys, call) {
      const found = await storage.read([...keys], call)
      return keys.map((key) => Object.hasOwn(found, key) && found[key] !== undefined ? new ObjectDocument(found[key], key) : undefined)
    },
    save: (changes, call) => storage.update === undefined
      ? replaceAll(storage, changes, call)
      : saveEach(changes, async ({ key, edit, loaded }) => {
        const change = (current: object | undefined) => editObject(edit, current && new ObjectDocument(current, key))
        await storage.update?.(key, change, loaded instanceof ObjectDocument ? loaded.object : undefined, call)
      })
  }
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
