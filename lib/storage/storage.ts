import type { ChangeDocument, StateDocument } from '../document/document.js'

/** The patience of a caller. */
export interface StorageCall {
  /** Aborted when the caller gave up: begin nothing new. */
  readonly signal: AbortSignal
  /** How long the caller waits, from the beginning, in milliseconds. */
  readonly timeout?: number
  /** `false` where a load must leave alone how long documents live. */
  readonly renews?: boolean
  /** To be called whenever the storage tries again. Counted in `fastify.botasState.stats`. */
  retrying(): void
}

/** What is saved in one step. */
export interface Commit {
  /** Each of another document. */
  readonly changes: ReadonlyArray<{
    /** Of the document. */
    readonly key: string
    /** As for `update`. */
    readonly change: ChangeDocument
    /** As for `update`. */
    readonly loaded?: StateDocument | undefined
  }>
  /** Refuse it where this holder has not got this lease. */
  readonly lease?: {
    /** As for the method `lease`. */
    readonly name: string
    /** Who must have it. */
    readonly holder: string
  }
  /** Keep this text under this name; refuse all where there is one already. */
  readonly record?: {
    /** It contains ids. */
    readonly name: string
    /** What `recall` gives. */
    readonly text: string
    /** How long it is kept. */
    readonly seconds: number
  }
}

/** `'lost'`: refused, for somebody else has the lease; `'recorded'`: refused, for there is such a record already. */
export type CommitOutcome = 'committed' | 'lost' | 'recorded'

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
   * Takes a lease, renews it, or gives it back. With it turns of one conversation wait for each other over processes, see the option
   * `concurrency`.
   *
   * @param name of the lease; it contains ids
   * @param holder gets it where nobody else has it, or has it already
   * @param milliseconds after which it ends by itself, from now, by the clock of the storage; 0 gives back what this holder has
   * @param instead the holder from whom it may be taken
   * @returns who has it now; `undefined` for nobody
   */
  lease?(name: string, holder: string, milliseconds: number, instead?: string, call?: StorageCall): Promise<string | undefined>

  /**
   * Saves several documents, and a record, in one step: all or none. With it, and with `recall`, an activity can be handled once, see the
   * option `once`. An error of a `change` is passed on with nothing stored.
   */
  commit?(commit: Commit, call?: StorageCall): Promise<CommitOutcome>

  /** The text of a record, `undefined` where there is none, or where its time has passed. */
  recall?(name: string, call?: StorageCall): Promise<string | undefined>

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
