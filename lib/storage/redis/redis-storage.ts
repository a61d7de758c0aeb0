import { setTimeout as wait } from 'node:timers/promises'
import type { Cluster, Redis } from 'ioredis'
import type { ChangeDocument, StateDocument } from '../../document/document.js'
import { TextDocument, documentsOf, objectsOf } from '../../document/text-document.js'
import { describeType } from '../../document/describe-type.js'
import { FST_BOTAS_STATE_CORRUPT_DOCUMENT } from '../../errors.js'
import { assertKnownOptions, assertWholeNumber, invalidOption } from '../option-checks.js'
import { type Comparison, compareAndSet } from './compare-and-set.js'
import { provideDocumentStore, readApart, saveEach } from '../document-store.js'
import type { Expiry } from '../expiry.js'
import { type RedisClient, assertClient, openClient } from './client.js'
import { type RedisConnection, connectionOf } from './connection.js'
import { failureOf, isWrongType } from './errors.js'
import type { OutageObserver, Storage, StorageCall } from '../storage.js'

/** The options of `RedisStorage`. */
export interface RedisStorageOptions extends Expiry {
  /** What every key begins with; a client's own `keyPrefix` comes before it. Default `botas:`. */
  keyPrefix?: string | undefined
}

/** From what is stored to what is to be. */
type Change = (stored: TextDocument | undefined) => TextDocument | undefined

/** The longest pause before another attempt, in milliseconds. */
const MAX_PAUSE = 20

/**
 * State in Redis, for any number of processes: a string per document. Only single-key commands, so any Cluster will do.
 */
export class RedisStorage implements Storage {
  readonly #client: RedisClient
  readonly #connection: RedisConnection
  readonly #isOwn: boolean
  readonly #prefix: string
  /** seconds, 0 for ever */
  readonly #ttl: number
  /** the documents that `read` gave, for as long as somebody holds them */
  readonly #loaded = new WeakMap<StateDocument, TextDocument>()
  #closed = false

  /**
   * @param connection a URL, `redis://` or `rediss://`, with several hosts and commas between them for a Cluster, or with
   *   the parameters `db`, `family`, `username` and `password`; or a client of ioredis, which the caller closes.
   *   With a URL the first command connects. Default `redis://localhost:6379`.
   * @param options `keyPrefix`, by default `botas:`, and `ttl`, in seconds, by default for ever
   * @throws FST_BOTAS_STATE_INVALID_OPTION where one of them is wrong, or for a URL without ioredis installed
   */
  constructor (connection: string | Redis | Cluster = 'redis://localhost:6379', options: RedisStorageOptions = {}) {
    assertKnownOptions(options, ['keyPrefix', 'ttl'])
    const { keyPrefix = 'botas:', ttl } = options
    if (typeof keyPrefix !== 'string') {
      throw invalidOption('keyPrefix', 'a string', describeType(keyPrefix))
    }
    assertWholeNumber('ttl', ttl, 'seconds')
    this.#prefix = keyPrefix
    this.#ttl = ttl ?? 0
    this.#isOwn = typeof connection === 'string'
    if (typeof connection !== 'string') assertClient(connection)
    this.#client = typeof connection === 'string' ? openClient(connection) : connection
    this.#connection = connectionOf(this.#client)
  }

  /**
   * The documents of these keys; a key that is not stored is left out. One `GET` each, all in one round trip.
   *
   * @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where a string is no JSON object in UTF-8
   */
  async read (keys: string[], call?: StorageCall): Promise<Record<string, StateDocument>> {
    const found = await this.#readDocuments(keys, call)
    const objects = objectsOf(keys, found)
    for (const [index, key] of keys.entries()) {
      const document = found[index]
      if (document !== undefined) this.#loaded.set(objects[key] as StateDocument, document)
    }
    return objects
  }

  /**
   * Replaces whole documents, whatever is stored.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE, and then writes nothing
   */
  async write (changes: Record<string, unknown>, call?: StorageCall): Promise<void> {
    const expiry = this.#ttl === 0 ? [] as const : ['EX', this.#ttl] as const
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
    await this.#replace(key, (stored) => TextDocument.changed(stored, change, key), loaded && this.#loaded.get(loaded), call)
  }

  async #replace (
    key: string, change: Change, loaded: TextDocument | undefined, call: StorageCall | undefined
  ): Promise<void> {
    let outcome = await this.#tryLoaded(key, change, loaded, call)
    for (let attempt = 0; !outcome.replaced; attempt++) {
      call?.retrying()
      // Retry the first conflict at once, then wait, less with every attempt, so that a writer that keeps losing wins eventually.
      if (attempt > 0) await wait(Math.random() * MAX_PAUSE / attempt)
      const stored = documentOf(outcome.stored, key)
      outcome = await this.#compareAndSet(key, stored, change(stored), call)
    }
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
    provideDocumentStore(this.prototype, (storage) => ({
      load: (keys, call) => readApart(keys, (keys) => storage.#readDocuments(keys, call), ofAnotherType),
      save: (changes, call) => saveEach(changes, ({ key, loaded, edit }) =>
        storage.#replace(key, (stored) => TextDocument.edited(stored, edit, key), loaded as TextDocument | undefined, call))
    }))
  }

  async #readDocuments (keys: string[], call: StorageCall | undefined): Promise<Array<TextDocument | undefined>> {
    const values = await this.#connection.send(() =>
      Promise.all(keys.map((key) => this.#client.getBuffer(this.#prefix + key))), call)
    return keys.map((key, index) => documentOf(values[index], key))
  }

  /** The loaded document may be stale: if the change throws for it, read the current one and try again. */
  async #tryLoaded (
    key: string, change: Change, loaded: TextDocument | undefined, call: StorageCall | undefined
  ): Promise<Comparison> {
    let next: TextDocument | undefined
    try {
      next = change(loaded)
    } catch {
      return { replaced: false, stored: await this.#connection.send(() => this.#client.getBuffer(this.#prefix + key), call) }
    }
    return this.#compareAndSet(key, loaded, next, call)
  }

  /**
   * A command that was lost may have been executed or not. Sent once more, by us or by the client, it finds what it
   * expects only if it was not; otherwise nobody can tell its work from that of another turn.
   */
  #compareAndSet (
    key: string, loaded: TextDocument | undefined, next: TextDocument | undefined, call: StorageCall | undefined
  ): Promise<Comparison> {
    const connection = this.#connection
    let isDoubtful = false
    return connection.send(() => {
      const { interruptions } = connection
      return compareAndSet(this.#client, this.#prefix + key, loaded, next, this.#ttl).then((outcome) => {
        if (interruptions !== connection.interruptions) isDoubtful = true
        if (outcome.replaced || !isDoubtful) return outcome
        throw new Error('the connection was lost before the answer came, and the document was changed meanwhile')
      }, (error) => {
        if (interruptions !== connection.interruptions || failureOf(error) === 'lost') isDoubtful = true
        throw error
      })
    }, call)
  }
}

function documentOf (bytes: Buffer | null | undefined, key: string): TextDocument | undefined {
  return bytes == null ? undefined : TextDocument.stored(bytes, key)
}

/** A key of another type than a string is a corrupt document. */
function ofAnotherType (error: unknown, key: string): TextDocument {
  if (!isWrongType(error as Error)) throw error
  return TextDocument.stored(new FST_BOTAS_STATE_CORRUPT_DOCUMENT(key, 'not a string of Redis'), key)
}
