import type { ChangeDocument, LoadedDocument } from '../document/document.js'
import type { Storage, StorageCall } from './storage.js'

/**
 * How a turn asks a storage of this package: it gets documents with all that the storage knows of them, gives back the
 * ones that it was loaded with, and waits for no promise where a storage has at hand what it is asked for. A document
 * that it gives belongs to the storage from then on.
 */
export interface DirectAccess<S extends Storage = Storage, Loaded extends LoadedDocument = LoadedDocument> {
  /** The documents in the order of their keys. */
  read(storage: S, keys: string[], call: StorageCall): Found<Loaded> | Promise<Found<Loaded>>
  /** @param loaded what `read` gave */
  update(
    storage: S, key: string, change: ChangeDocument, loaded: Loaded | undefined, call: StorageCall
  ): void | Promise<void>
}

export type Found<Loaded extends LoadedDocument = LoadedDocument> = Array<Loaded | undefined>

/** By the methods that are passed by: those of a subclass or a wrapper are not. */
const known = new WeakMap<Storage['read'], { update: Storage['update'], access: DirectAccess }>()

/** Makes known how to ask the storages of a class. */
export function allowDirectAccess<S extends Storage, Loaded extends LoadedDocument> (
  { read, update }: S, access: DirectAccess<S, Loaded>
): void {
  known.set(read, { update, access: access as unknown as DirectAccess })
}

/** How to ask a storage directly, if that is possible. */
export function directAccess (storage: Storage): DirectAccess | undefined {
  const found = known.get(storage.read)
  return found?.update === storage.update ? found?.access : undefined
}
