import type { ChangeDocument, StateDocument } from '../../document/document.js'
import { provideDocumentStore } from '../document-store.js'
import { DriverDocuments } from '../driver/driver-documents.js'
import { EXPIRY_OPTIONS, type Expiry, lifetimeOf, pruneRegularly } from '../expiry.js'
import { assertKnownOptions } from '../option-checks.js'
import type { OutageObserver, Storage, StorageCall } from '../storage.js'
import { type PostgresPool, assertPool, endPool, openPool, surviveIdleDeaths } from './pool.js'
import { PostgresDriver } from './postgres-driver.js'
import { tableOf } from './table.js'

export type { PostgresClient, PostgresPool } from './pool.js'

/** The options of `PostgresStorage`. */
export interface PostgresStorageOptions extends Expiry {
  /** The table, with or without a schema, such as `bot.state`; created where it is missing. Default `botas_state`. */
  table?: string | undefined
}

/** How often rows are removed whose time has passed, where documents have no `ttl`, in seconds. */
const PRUNE_INTERVAL = 3600

/** State in PostgreSQL, for any number of processes: a row a document, with its exact text. The documents of a turn are saved together. */
export class PostgresStorage implements Storage {
  readonly #pool: PostgresPool
  readonly #isOwn: boolean
  readonly #driver: PostgresDriver
  readonly #documents: DriverDocuments
  readonly #pruning: NodeJS.Timeout
  #closed = false

  /**
   * @param connection a URL, `postgres://user:password@host:5432/database`; or a `Pool` of pg, which the caller closes. With a URL the
   *   first statement connects.
   * @param options `table`, by default `botas_state`, and `ttl`, in seconds, by default for ever, with `renew`
   * @throws FST_BOTAS_STATE_INVALID_OPTION where one of them is wrong, or for a URL without pg installed
   */
  constructor (connection: string | PostgresPool, options: PostgresStorageOptions = {}) {
    assertKnownOptions(options, ['table', ...EXPIRY_OPTIONS])
    const { table = 'botas_state' } = options
    const lifetime = lifetimeOf(options)
    const statements = tableOf(table)
    this.#isOwn = typeof connection === 'string'
    if (typeof connection !== 'string') assertPool(connection)
    this.#pool = typeof connection === 'string' ? openPool(connection) : connection
    surviveIdleDeaths(this.#pool)
    this.#driver = new PostgresDriver(this.#pool, statements)
    this.#documents = new DriverDocuments(this.#driver, lifetime)
    this.#pruning = pruneRegularly(() => this.prune().catch(() => {}), lifetime.seconds || PRUNE_INTERVAL)
  }

  /**
   * The documents of these keys; a key that is not stored is left out. One statement.
   *
   * @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where a text is no JSON object
   */
  async read (keys: string[], call?: StorageCall): Promise<Record<string, StateDocument>> {
    return this.#documents.read(keys, call)
  }

  /**
   * Replaces whole documents, whatever is stored.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE, and then writes nothing
   */
  async write (changes: Record<string, unknown>, call?: StorageCall): Promise<void> {
    return this.#documents.write(changes, call)
  }

  /** Deletes documents; a key that is not stored is no error. */
  async delete (keys: string[], call?: StorageCall): Promise<void> {
    return this.#documents.delete(keys, call)
  }

  /**
   * Compare-and-set against what was loaded; where something else is stored, again against that. Goes on until it succeeds or
   * `change` throws.
   *
   * @throws what `change` throws, and FST_BOTAS_STATE_CORRUPT_DOCUMENT or FST_BOTAS_STATE_NOT_SERIALIZABLE
   */
  async update (key: string, change: ChangeDocument, loaded?: StateDocument, call?: StorageCall): Promise<void> {
    return this.#documents.update(key, change, loaded, call)
  }

  /** Removes the rows whose time has passed. Runs by itself now and then. */
  async prune (): Promise<void> {
    return this.#documents.run((signal) => this.#driver.prune(signal))
  }

  /** Tells when the server cannot be reached, and when it can again. */
  watch (observer: OutageObserver): () => void {
    return this.#documents.watch(observer)
  }

  /** Closes the pool if the storage made it. */
  async close (): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    clearInterval(this.#pruning)
    if (!this.#isOwn) return
    this.#documents.close()
    await endPool(this.#pool)
  }

  static {
    provideDocumentStore(this.prototype, (storage) => storage.#documents)
  }
}
