import type { ChangeDocument, StateDocument } from '../document/document.js'

/** The patience of a caller. */
export interface StorageCall {
  /** Aborted when the caller gave up: begin nothing new. */
  readonly signal: AbortSignal
  /** How long the caller waits, from the beginning, in milliseconds. */
  readonly timeout?: number
  /** To be called whenever the storage tries again. Counted in `fastify.botasState.stats`. */
  retrying(): void
}

/** Is told of outages. */
export interface OutageObserver {
  /** An outage has begun, or has one more reason by now. `reason` is free of credentials and of what is stored. */
  down(reason: Error): void
  /** It is over. */
  up(): void
}

/**
 * Where state documents are kept. `read`, `write` and `delete` are what the storages of all botas libraries have;
 * a storage that has no more than these holds whole documents, of which the last write wins. A turn says with each call
 * how long it waits; a storage may ignore that.
 */
export interface Storage {
  /**
   * The documents of these keys, JSON objects, which are the caller's to keep and to change. A key that is not stored is
   * left out.
   */
  read(keys: string[], call?: StorageCall): Promise<Record<string, unknown>>

  /** Replaces whole documents, by key. */
  write(changes: Record<string, unknown>, call?: StorageCall): Promise<void>

  /** Deletes documents. A key that is not stored is no error. */
  delete(keys: string[], call?: StorageCall): Promise<void>

  /**
   * Changes one document atomically, so that concurrent turns do not undo each other.
   *
   * @param change from the stored document (`undefined` where there is none) to the new one; `undefined` removes it.
   *   It may be called more than once, and its error is passed on with nothing stored.
   * @param loaded the very object that `read` returned for this key, if any: the document may be tried with it first,
   *   without reading again
   */
  update?(key: string, change: ChangeDocument, loaded?: StateDocument, call?: StorageCall): Promise<void>

  /**
   * Reports outages, a current one included.
   *
   * @returns unsubscribes
   */
  watch?(observer: OutageObserver): () => void

  /** Releases files and connections. Idempotent. */
  close?(): Promise<void>
}

/** Whether something has the methods that every storage must have. */
export function isStorage (value: unknown): value is Storage {
  const { read, write, delete: remove } = (value ?? {}) as Partial<Storage>
  return typeof read === 'function' && typeof write === 'function' && typeof remove === 'function'
}
