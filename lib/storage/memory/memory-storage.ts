import { LRUCache } from 'lru-cache'
import { type ChangeDocument, type StateDocument, copyDocument, documentsOf } from '../../document/document.js'
import { assertKnownOptions, assertWholeNumber } from '../option-checks.js'
import { allowDirectAccess } from '../direct-access.js'
import { type Expiry, pruneRegularly } from '../expiry.js'
import type { Storage } from '../storage.js'

/** The options of `MemoryStorage`. */
export interface MemoryStorageOptions extends Expiry {
  /** The most documents to keep: beyond them the one is forgotten that was not used for longest. Default: no limit. */
  maxDocuments?: number | undefined
}

/**
 * State in the memory of this process, for development, tests and bots that may forget. Documents are copied by way of
 * their JSON text when they come in and when they go out, so that nothing is shared with anybody; a turn does that itself.
 */
export class MemoryStorage implements Storage {
  /** each is left as it is: a change puts another one in its place */
  readonly #documents: Map<string, StateDocument> | LRUCache<string, StateDocument>
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
    return documentsOf(keys, keys.map((key) => {
      const document = this.#copyOf(key)
      return document && { document }
    }))
  }

  /**
   * Replaces whole documents, whatever is stored.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE, and then writes nothing
   */
  async write (changes: Record<string, unknown>): Promise<void> {
    const copies = Object.entries(changes).map(([key, document]) => [key, copyDocument(document, key)] as const)
    for (const [key, copy] of copies) this.#keep(key, copy)
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
    const next = change(this.#copyOf(key))
    this.#keep(key, next && copyDocument(next, key))
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

  #copyOf (key: string): StateDocument | undefined {
    const document = this.#documents.get(key)
    return document && copyDocument(document, key)
  }

  #keep (key: string, document: StateDocument | undefined): void {
    if (document === undefined) this.#documents.delete(key)
    else this.#documents.set(key, document)
    if (this.#ttl !== undefined) this.#pruning ??= pruneRegularly(() => this.prune(), this.#ttl)
  }

  static {
    allowDirectAccess(this.prototype, {
      read: (storage, keys) => keys.map((key) => {
        const document = storage.#documents.get(key)
        return document && { document }
      }),
      update: (storage, key, change) => storage.#keep(key, change(storage.#documents.get(key)))
    })
  }
}

function limited (ttl: number | undefined, maxDocuments: number | undefined): LRUCache<string, StateDocument> {
  return new LRUCache({
    ...(ttl === undefined ? {} : { ttl: ttl * 1000 }),
    // A limit there must be, and unlike "max" this one takes no memory beforehand.
    maxSize: maxDocuments ?? Number.MAX_SAFE_INTEGER,
    sizeCalculation: () => 1
  })
}
