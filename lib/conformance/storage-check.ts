import type { Storage } from '../storage/storage.js'

/** A storage that has the optional method `update`. */
export type UpdatingStorage = Storage & Required<Pick<Storage, 'update'>>

/** A check of something that a storage promises. */
export interface StorageCheck<S extends Storage = Storage> {
  title: string
  /** Tries it on a fresh, empty storage. Throws an AssertionError where it does not hold. */
  run: (storage: S) => Promise<void>
}

/** What is stored under some keys, as an object with nothing inherited that could make a difference. */
export async function read (storage: Storage, ...keys: string[]): Promise<Record<string, unknown>> {
  return { ...await storage.read(keys) }
}
