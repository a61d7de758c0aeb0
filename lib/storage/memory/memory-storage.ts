import { LRUCache } from 'lru-cache'
import type { ChangeDocument, StateDocument } from '../../document/document.js'
import { TextDocument, documentsOf, objectsOf } from '../../document/text-document.js'
import { provideDocumentStore } from '../document-store.js'
import { assertKnownOptions, assertWholeNumber } from '../option-checks.js'
import { type Expiry, pruneRegularly } from '../expiry.js'
import type { Storage } from '../storage.js'

/** The options of `MemoryStorage`. */
export interface MemoryStorageOptions extends Expiry {
  /** The most documents to keep: beyond them the least recently used one is evicted. Default: no limit. */
  maxDocuments?: number | undefined
}

/**
 * State in the memory of this process, for development, tests and bots that may forget. Documents are kept as JSON, so that
 * nothing is shared with anybody.
 */
export class MemoryStorage implements Storage {
  readonly #documents: Map<string, TextDocument> | LRUCache<string, TextDocument>
  readonly #ttl: number | undefined
  #pruning: NodeJS.Timeout | undefined

  /**
   * @param options `ttl`, in seconds, and `maxDocuments`; by default everything is kept
   * @throws FST_BOTAS_STATE_INVALID_OPTION
   */
  constructor (options: MemoryStorageOptions = {}) {
    assertKnownOptions(options, ['ttl', 'maxDocuments'])
    const { ttl, maxDocuments } = options
    assertWholeNumber('ttl', ttl, 'seconds')
    assertWholeNumber('maxDocuments', maxDocuments, 'documents')
    this.#ttl = ttl
    this.#documents = ttl === undefined && maxDocuments === undefined ? new Map() : limited(ttl, maxDocuments)
  }

  /** The documents of these keys; a key that is not stored is left out. */
  async read (keys: string[]): Promise<Record<string, StateDocument>> {
    return objectsOf(keys, keys.map((key) => this.#documents.get(key)))
  }

  /**
   * Replaces whole documents, whatever is stored.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE, and then writes nothing
   */
  async write (changes: Record<string, unknown>): Promise<void> {
    for (const [key, document] of documentsOf(changes)) this.#keep(key, document)
  }

  /** Deletes documents; a key that is not stored is no error. */
  async delete (keys: string[]): Promise<void> {
    for (const key of keys) this.#documents.delete(key)
  }

  /**
   * Changes one document. Synchronous inside: no other turn comes between.
   *
   * @throws what `change` throws, and FST_BOTAS_STATE_NOT_SERIALIZABLE
   */
  async update (key: string, change: ChangeDocument): Promise<void> {
    this.#keep(key, TextDocument.changed(this.#documents.get(key), change, key))
  }

  /** Forgets the documents whose `ttl` has passed. Runs by itself now and then. */
  async prune (): Promise<void> {
    if (this.#documents instanceof LRUCache) this.#documents.purgeStale()
  }

  /** Keeps what is stored: another server may go on with it. */
  async close (): Promise<void> {
    clearInterval(this.#pruning)
    this.#pruning = undefined
  }

  #keep (key: string, document: TextDocument | undefined): void {
    if (document === undefined) this.#documents.delete(key)
    else this.#documents.set(key, document)
    if (this.#ttl !== undefined) this.#pruning ??= pruneRegularly(() => this.prune(), this.#ttl)
  }

  static {
    provideDocumentStore(this.prototype, (storage) => ({
      load: async (keys) => keys.map((key) => storage.#documents.get(key)),
      // As saveEach does, but without a promise for each document: they would cost more than all the rest.
      save: async (changes) => {
        const failures: unknown[] = []
        for (const change of changes) {
          try {
            storage.#keep(change.key, TextDocument.edited(storage.#documents.get(change.key), change.edit, change.key))
            change.isSaved = true
          } catch (error) {
            failures.push(error)
          }
        }
        if (failures.length > 0) throw failures[0]
      }
    }))
  }
}

function limited (ttl: number | undefined, maxDocuments: number | undefined): LRUCache<string, TextDocument> {
  return new LRUCache({
    ...(ttl === undefined ? {} : { ttl: ttl * 1000 }),
    // lru-cache requires a limit; unlike max, maxSize does not preallocate.
    maxSize: maxDocuments ?? Number.MAX_SAFE_INTEGER,
    sizeCalculation: () => 1
  })
}
