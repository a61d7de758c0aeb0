import { LRUCache } from 'lru-cache'
import type { ChangeDocument, StateDocument } from '../../document/document.js'
import { TextDocument, documentsOf, objectsOf } from '../../document/text-document.js'
import { type DocumentChange, type Hold, type Holds, type SaveOutcome, type TurnEnd, provideDocumentStore } from '../document-store.js'
import { assertKnownOptions, assertWholeNumber } from '../option-checks.js'
import { EXPIRY_OPTIONS, type Expiry, lifetimeOf, pruneRegularly } from '../expiry.js'
import type { Storage, StorageCall } from '../storage.js'

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
  /** what was kept of the replies to activities that were handled */
  readonly #marks = limited<string>(undefined, undefined)
  #pruning: NodeJS.Timeout | undefined

  /**
   * @param options `ttl`, in seconds, with `renew`, and `maxDocuments`; by default everything is kept
   * @throws FST_BOTAS_STATE_INVALID_OPTION
   */
  constructor (options: MemoryStorageOptions = {}) {
    assertKnownOptions(options, ['maxDocuments', ...EXPIRY_OPTIONS])
    const { ttl, maxDocuments } = options
    const { isRenewedByLoads } = lifetimeOf(options)
    assertWholeNumber('maxDocuments', maxDocuments, 'documents')
    this.#ttl = ttl
    this.#documents = ttl === undefined && maxDocuments === undefined ? new Map() : limited<TextDocument>(ttl, maxDocuments, isRenewedByLoads)
  }

  /** The documents of these keys; a key that is not stored is left out. */
  async read (keys: string[], call?: StorageCall): Promise<Record<string, StateDocument>> {
    return objectsOf(keys, this.#load(keys, call))
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

  /** Forgets the documents and activities whose `ttl` has passed. Runs by itself now and then. */
  async prune (): Promise<void> {
    if (this.#documents instanceof LRUCache) this.#documents.purgeStale()
    this.#marks.purgeStale()
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
      load: async (keys, call) => storage.#load(keys, call),
      save: async (changes, _call, end) => storage.#save(changes, end),
      timeLeft: async (key) => storage.#documents instanceof LRUCache ? storage.#documents.getRemainingTTL(key) : Infinity,
      holds: storage.#holds
    }))
  }

  #load (keys: string[], call?: StorageCall): Array<TextDocument | undefined> {
    const documents = this.#documents
    return keys.map((key) => call?.renews === false && documents instanceof LRUCache ? documents.peek(key) : documents.get(key))
  }

  /** Nothing comes between, and nothing is kept if one of the edits fails. */
  #save (changes: DocumentChange[], end: TurnEnd | undefined): SaveOutcome {
    const edited = changes.map(({ key, edit }) => TextDocument.edited(this.#documents.get(key), edit, key))
    for (const [index, change] of changes.entries()) {
      this.#keep(change.key, edited[index])
      if (change.forgets) this.#forget(change.key)
      change.isSaved = true
    }
    if (end?.reply !== undefined) this.#remember(end.hold, end.reply)
    return 'saved'
  }

  #remember (hold: Hold, reply: string): void {
    const { ttl } = hold.activity as { ttl: number }
    this.#marks.set(markOf(hold), reply, { ttl: ttl * 1000 })
    this.#pruning ??= pruneRegularly(() => this.prune(), Math.min(ttl, this.#ttl ?? ttl))
  }

  /** Looks at all marks: documents are forgotten rarely. */
  #forget (key: string): void {
    for (const mark of [...this.#marks.keys()]) if (mark.startsWith(`${key}\n`)) this.#marks.delete(mark)
  }

  readonly #holds: Holds = {
    isShared: false,
    remembers: true,
    isLeftBySave: true,
    enter: async (hold, keys) => {
      const reply = hold.activity && this.#marks.get(markOf(hold))
      return reply === undefined ? { outcome: 'entered', documents: this.#load(keys) } : { outcome: 'done', reply }
    },
    // The turns of this process have waited for each other before.
    renew: async () => true,
    leave: async () => {}
  }
}

function markOf ({ key, activity }: Hold): string {
  return `${key}\n${activity?.id}`
}

function limited<Value extends object | string> (
  ttl: number | undefined, maxDocuments: number | undefined, isRenewedByLoads = false
): LRUCache<string, Value> {
  return new LRUCache({
    ...(ttl === undefined ? {} : { ttl: ttl * 1000, updateAgeOnGet: isRenewedByLoads }),
    // lru-cache requires a limit; unlike max, maxSize does not preallocate.
    maxSize: maxDocuments ?? Number.MAX_SAFE_INTEGER,
    sizeCalculation: () => 1
  })
}
