import type { Cluster, Redis } from 'ioredis'
import type { ChangeDocument, StateDocument } from '../../document/document.js'
import { TextDocument, documentsOf } from '../../document/text-document.js'
import { describeType } from '../../document/describe-type.js'
import { assertKnownOptions, invalidOption } from '../option-checks.js'
import { clientPrefixOf, hidesHashTags } from './companion-key.js'
import { provideDocumentStore } from '../document-store.js'
import { EXPIRY_OPTIONS, type Expiry, type Lifetime, lifetimeOf } from '../expiry.js'
import { type RedisClient, assertClient, openClient } from './client.js'
import { type RedisConnection, connectionOf } from './connection.js'
import { ReadDocuments } from '../read-documents.js'
import { RedisDocuments } from './redis-documents.js'
import type { OutageObserver, Storage, StorageCall } from '../storage.js'

/** The options of `RedisStorage`. */
export interface RedisStorageOptions extends Expiry {
  /** What every key begins with; a client's own `keyPrefix` comes before it. Default `botas:`. */
  keyPrefix?: string | undefined
}

/**
 * State in Redis, for any number of processes: a string per document. What one command is about lies in one slot of a Cluster.
 */
export class RedisStorage implements Storage {
  readonly #client: RedisClient
  readonly #connection: RedisConnection
  readonly #isOwn: boolean
  readonly #documents: RedisDocuments
  readonly #prefix: string
  readonly #lifetime: Lifetime
  readonly #given = new ReadDocuments()
  #closed = false

  /**
   * @param connection a URL, `redis://` or `rediss://`, with several hosts and commas between them for a Cluster, or with
   *   the parameters `db`, `family`, `username` and `password`; or a client of ioredis, which the caller closes.
   *   With a URL the first command connects. Default `redis://localhost:6379`.
   * @param options `keyPrefix`, by default `botas:`; `ttl`, in seconds, by default for ever, with `renew`
   * @throws FST_BOTAS_STATE_INVALID_OPTION where one of them is wrong, or for a URL without ioredis installed
   */
  constructor (connection: string | Redis | Cluster = 'redis://localhost:6379', options: RedisStorageOptions = {}) {
    assertKnownOptions(options, ['keyPrefix', ...EXPIRY_OPTIONS])
    const { keyPrefix = 'botas:' } = options
    if (typeof keyPrefix !== 'string') {
      throw invalidOption('keyPrefix', 'a string', describeType(keyPrefix))
    }
    this.#prefix = keyPrefix
    this.#lifetime = lifetimeOf(options)
    this.#isOwn = typeof connection === 'string'
    if (typeof connection !== 'string') assertClient(connection)
    this.#client = typeof connection === 'string' ? openClient(connection) : connection
    if (this.#client.isCluster && hidesHashTags(clientPrefixOf(this.#client) + keyPrefix)) {
      throw invalidOption('keyPrefix', 'without braces on a Cluster, or with a complete hash tag such as "{bot}:"', 'one with a single brace, or an empty tag')
    }
    this.#connection = connectionOf(this.#client)
    this.#documents = new RedisDocuments(this.#client, this.#prefix, this.#lifetime)
  }

  /**
   * The documents of these keys; a key that is not stored is left out. One `GET` each, or `GETEX` where that renews it, all in one
   * round trip.
   *
   * @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where a string is no JSON object in UTF-8
   */
  async read (keys: string[], call?: StorageCall): Promise<Record<string, StateDocument>> {
    return this.#given.give(keys, await this.#documents.read(keys, call))
  }

  /**
   * Replaces whole documents, whatever is stored.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE, and then writes nothing
   */
  async write (changes: Record<string, unknown>, call?: StorageCall): Promise<void> {
    const { seconds } = this.#lifetime
    const expiry = seconds === 0 ? [] as const : ['EX', seconds] as const
    await Promise.all(documentsOf(changes).map(([key, { content }]) =>
      this.#connection.send(() => this.#client.set(this.#prefix + key, content, ...expiry as ['EX', number]), call)))
  }

  /** Deletes documents; a key that is not stored is no error. */
  async delete (keys: string[], call?: StorageCall): Promise<void> {
    await Promise.all(keys.map((key) => this.#connection.send(() => this.#client.del(this.#prefix + key), call)))
  }

  /**
   * Compare-and-set against what was loaded, or, without that, against nothing; where something else is stored, again
   * against that. Goes on until it succeeds or `change` throws.
   *
   * @throws what `change` throws, and FST_BOTAS_STATE_CORRUPT_DOCUMENT or FST_BOTAS_STATE_NOT_SERIALIZABLE
   */
  async update (key: string, change: ChangeDocument, loaded?: StateDocument, call?: StorageCall): Promise<void> {
    await this.#documents.replace([{
      key, loaded: this.#given.of(loaded), change: (stored) => TextDocument.changed(stored, change, key)
    }], call)
  }

  /** Tells when the connection is lost, or cannot be made, and when it is there again. */
  watch (observer: OutageObserver): () => void {
    return this.#connection.watch(observer)
  }

  /** Closes the client if the storage made it. */
  async close (): Promise<void> {
    if (!this.#isOwn || this.#closed) return
    this.#closed = true
    await this.#connection.close()
  }

  static {
    provideDocumentStore(this.prototype, (storage) => storage.#documents)
  }
}
