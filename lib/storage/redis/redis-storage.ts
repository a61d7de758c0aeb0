import { setTimeout as wait } from 'node:timers/promises'
import type { Cluster, Redis } from 'ioredis'
import { type ChangeDocument, type StateDocument, documentsOf, encodeDocument, encodeDocuments } from '../../document/document.js'
import { FST_BOTAS_STATE_INVALID_OPTION } from '../../errors.js'
import { describeType } from '../../document/describe-type.js'
import { assertKnownOptions, assertWholeNumber } from '../option-checks.js'
import { StoredDocument } from '../../document/stored-document.js'
import { type Comparison, compareAndSet } from './compare-and-set.js'
import { type Found, allowDirectAccess } from '../direct-access.js'
import type { Expiry } from '../expiry.js'
import { type RedisClient, assertClient, openClient } from './client.js'
import { type RedisConnection, connectionOf } from './connection.js'
import { isLost } from './errors.js'
import type { OutageObserver, Storage, StorageCall } from '../storage.js'

/** The options of `RedisStorage`. */
export interface RedisStorageOptions extends Expiry {
  /** What every key begins with; a client's own `keyPrefix` comes before it. Default `botas:`. */
  keyPrefix?: string | undefined
}

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
  readonly #loaded = new WeakMap<StateDocument, StoredDocument>()
  #closed = false

  /**
   * @param connection a URL, `redis://` or `rediss://`, with several hosts and commas between them for a Cluster, or with
   *   the parameters `db`, `family`, `username` and `password`; or a client of ioredis, which stays its maker's to close.
   *   With a URL the first command connects. Default `redis://localhost:6379`.
   * @param options `keyPrefix`, by default `botas:`, and `ttl`, in seconds, by default for ever
   * @throws FST_BOTAS_STATE_INVALID_OPTION where one of them is wrong, or for a URL without ioredis installed
   */
  constructor (connection: string | Redis | Cluster = 'redis://localhost:6379', options: RedisStorageOptions = {}) {
    assertKnownOptions(options, ['keyPrefix', 'ttl'])
    const { keyPrefix = 'botas:', ttl } = options
    if (typeof keyPrefix !== 'string') {
      throw new FST_BOTAS_STATE_INVALID_OPTION('keyPrefix', 'a string', describeType(keyPrefix))
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
    const found = await this.#find(keys, call)
    for (const stored of found) if (stored !== undefined) this.#loaded.set(stored.document, stored)
    return documentsOf(keys, found)
  }

  /**
   * Replaces whole documents, whatever is stored.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE, and then writes nothing
   */
  async write (changes: Record<string, unknown>, call?: StorageCall): Promise<void> {
    const expiry = this.#ttl === 0 ? [] as const : ['EX', this.#ttl] as const
    const texts = encodeDocuments(changes)
    await Promise.all(texts.map(([key, text]) =>
      this.#connection.send(() => this.#client.set(this.#prefix + key, text, ...expiry as ['EX', number]), call)))
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
    await this.#update(key, change, loaded && this.#loaded.get(loaded), call)
  }

  #update (
    key: string, change: ChangeDocument, guess: StoredDocument | undefined, call: StorageCall | undefined
  ): Promise<void> {
    return this.#tryGuess(key, change, guess, call).then((outcome) => {
      if (!outcome.replaced) return this.#updateStored(key, change, outcome, call)
    })
  }

  async #updateStored (
    key: string, change: ChangeDocument, outcome: Comparison, call: StorageCall | undefined
  ): Promise<void> {
    for (let attempt = 0; !outcome.replaced; attempt++) {
      call?.retrying()
      // The first surprise is usually the last. Who keeps losing comes back sooner than those who begin.
      if (attempt > 0) await wait(Math.random() * MAX_PAUSE / attempt)
      const stored = parse(outcome.stored, key)
      outcome = await this.#compareAndSet(key, stored?.text, encodeChanged(key, change, stored), call)
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
    allowDirectAccess(this.prototype, {
      read: (storage, keys, call) => storage.#find(keys, call),
      update: (storage, key, change, loaded, call) => storage.#update(key, change, loaded, call)
    })
  }

  async #find (keys: string[], call: StorageCall | undefined): Promise<Found<StoredDocument>> {
    const values = await this.#connection.send(() =>
      Promise.all(keys.map((key) => this.#client.getBuffer(this.#prefix + key))), call)
    return keys.map((key, index) => parse(values[index], key))
  }

  /** Where the change fails on a guess, that says nothing: it is for what is stored. */
  #tryGuess (
    key: string, change: ChangeDocument, guess: StoredDocument | undefined, call: StorageCall | undefined
  ): Promise<Comparison> {
    let next: string | undefined
    try {
      next = encodeChanged(key, change, guess)
    } catch {
      return this.#connection.send(() => this.#client.getBuffer(this.#prefix + key), call)
        .then((stored) => ({ replaced: false, stored }))
    }
    return this.#compareAndSet(key, guess?.text, next, call)
  }

  /**
   * A command that was lost may have been executed or not. Sent once more, by us or by the client, it finds what it
   * expects only if it was not; otherwise nobody can tell its work from that of another turn.
   */
  #compareAndSet (
    key: string, expected: string | undefined, next: string | undefined, call: StorageCall | undefined
  ): Promise<Comparison> {
    const connection = this.#connection
    let isDoubtful = false
    return connection.send(() => {
      const { interruptions } = connection
      return compareAndSet(this.#client, this.#prefix + key, expected, next, this.#ttl).then((outcome) => {
        if (interruptions !== connection.interruptions) isDoubtful = true
        if (outcome.replaced || !isDoubtful) return outcome
        throw new Error('the connection was lost before the answer came, and the document was changed meanwhile')
      }, (error) => {
        if (interruptions !== connection.interruptions || isLost(error)) isDoubtful = true
        throw error
      })
    }, call)
  }
}

function parse (bytes: Buffer | null | undefined, key: string): StoredDocument | undefined {
  return bytes == null ? undefined : new StoredDocument(bytes, key)
}

function encodeChanged (key: string, change: ChangeDocument, stored: StoredDocument | undefined): string | undefined {
  const next = change(stored?.document)
  return next === undefined ? undefined : encodeDocument(next, key, stored)
}
