import { LRUCache } from 'lru-cache'
import { type ChangeDocument, type StateDocument, StoredDocument, documentsOf, encodeDocument, encodeDocuments } from '../document.js'
import { assertKnownOptions, assertWholeNumber } from '../option-checks.js'
import { allowDirectAccess } from './direct-access.js'
import { type Expiry, pruneRegularly } from './expiry.js'
import type { Storage } from './storage.js'

/** The options of `MemoryStorage`. */
export interface MemoryStorageOptions extends Expiry {
  /** The most documents to keep: beyond them the one is forgotten that was not used for longest. Default: no limit. */
  maxDocuments?: number | undefined
}

/**
 * State in the memory of this process, for development, tests and bots that may forget. Documents are kept as JSON
 * text, so that nothing is shared with a handler.
 */
export class MemoryStorage implements Storage {
  readonly #texts: Map<string, string> | LRUCache<string, string>
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
    this.#texts = ttl === undefined && maxDocuments === undefined ? new Map() : limited(ttl, maxDocuments)
  }

  /** The documents of these keys; a key that is not stored is left out. */
  async read (keys: string[]): Promise<Record<string, StateDocument>> {
    return documentsOf(keys, keys.map((key) => this.#find(key)))
  }

  /**
   * Replaces whole documents, whatever is stored.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE, and then writes nothing
   */
  async write (changes: Record<string, unknown>): Promise<void> {
    for (const [key, text] of encodeDocuments(changes)) this.#keep(key, text)
  }

  /** Deletes documents; a key that is not stored is no error. */
  async delete (keys: string[]): Promise<void> {
    for (const key of keys) this.#texts.delete(key)
  }

  /**
   * Changes one document. Synchronous inside: no other turn comes between.
   *
   * @throws what `change` throws, and FST_BOTAS_STATE_NOT_SERIALIZABLE
   */
  async update (key: string, change: ChangeDocument): Promise<void> {
    this.#update(key, change)
  }

  /** Forgets the documents whose `ttl` has passed. Runs by itself now and then. */
  async prune (): Promise<void> {
    if (this.#texts instanceof LRUCache) this.#texts.purgeStale()
  }

  /** Keeps what is stored: another server may go on with it. */
  async close (): Promise<void> {
    clearInterval(this.#pruning)
    this.#pruning = undefined
  }

  #find (key: string): StoredDocument | undefined {
    const text = this.#texts.get(key)
    return text === undefined ? undefined : new StoredDocument(text, key)
  }

  #update (key: string, change: ChangeDocument, loaded?: StoredDocument): void {
    const stored = loaded !== undefined && loaded.text === this.#texts.get(key) ? loaded : this.#find(key)
    const next = change(stored?.document)
    if (next === undefined) this.#texts.delete(key)
    // All that is stored was written by JavaScript: there are no other ways to put it that would have to be kept.
    else this.#keep(key, encodeDocument(next, key))
  }

  static {
    allowDirectAccess(this.prototype, {
      read: (storage, keys) => keys.map((key) => storage.#find(key)),
      update: (storage, key, change, loaded) => storage.#update(key, change, loaded)
    })
  }

  #keep (key: string, text: string): void {
    this.#texts.set(key, text)
    if (this.#ttl !== undefined) this.#pruning ??= pruneRegularly(() => this.prune(), this.#ttl)
  }
}

function limited (ttl: number | undefined, maxDocuments: number | undefined): LRUCache<string, string> {
  return new LRUCache({
    ...(ttl === undefined ? {} : { ttl: ttl * 1000 }),
    // A limit there must be, and unlike "max" this one takes no memory beforehand.
    maxSize: maxDocuments ?? Number.MAX_SAFE_INTEGER,
    sizeCalculation: () => 1
  })
}
