import type { Storage } from '../storage/storage.js'

/** A storage that has the optional method `update`. */
export type UpdatingStorage = Storage & Required<Pick<Storage, 'update'>>

/** Something that a storage promises. */
export interface StoragePromise<S extends Storage = Storage> {
  title: string
  /** Sees whether a fresh, empty storage keeps it. Throws an AssertionError where it does not. */
  keep: (storage: S) => Promise<void>
}

/** What is stored under some keys, as an object with nothing inherited that could make a difference. */
export async function read (storage: Storage, ...keys: string[]): Promise<Record<string, unknown>> {
  return { ...await storage.read(keys) }
}
