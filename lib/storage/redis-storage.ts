import { isUtf8 } from 'node:buffer'
import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'
import { setTimeout as wait } from 'node:timers/promises'
import type { Cluster, Redis } from 'ioredis'
import { type ChangeDocument, type StateDocument, type StoredDocument, encodeDocument, encodeDocuments, parseDocument } from '../document.js'
import { FST_BOTAS_STATE_CORRUPT_DOCUMENT, FST_BOTAS_STATE_INVALID_OPTION, kindOf } from '../errors.js'
import type { Storage } from './storage.js'

/** The options of `RedisStorage`. */
export interface RedisStorageOptions {
  /** What every key begins with; a client's own `keyPrefix` comes before it. Default `botas:`. */
  keyPrefix?: string
}

/**
 * Replaces a document if it is still the expected one, in a single step. Gives 1, or else what is stored now.
 * ARGV: '1' or '0', whether a document is expected; its text; '1' or '0', whether one is to be stored; its text.
 */
const COMPARE_AND_SET = `
local stored = redis.call('GET', KEYS[1])
if ARGV[1] == '1' and stored ~= ARGV[2] or ARGV[1] == '0' and stored then return stored end
if ARGV[3] == '1' then redis.call('SET', KEYS[1], ARGV[4]) else redis.call('DEL', KEYS[1]) end
return 1
`
const COMPARE_AND_SET_SHA = createHash('sha1').update(COMPARE_AND_SET).digest('hex')

/** What the script gives: the stored text or `null` where it stored nothing, otherwise 1, as a client likes its numbers. */
type ScriptResult = Buffer | null | number | string

/** Every client of ioredis has these methods, though its types do not tell. */
interface ScriptRunner {
  evalshaBuffer(sha: string, keyCount: 1, key: string, ...args: string[]): Promise<ScriptResult>
  evalBuffer(script: string, keyCount: 1, key: string, ...args: string[]): Promise<ScriptResult>
}

/** How long `close` waits for a client of ours to say goodbye, in milliseconds. */
const QUIT_TIMEOUT = 500
/** The longest pause before another attempt, in milliseconds. */
const MAX_PAUSE = 20

/**
 * State in Redis, for any number of processes: a string per document. Only single-key commands, so any Cluster will do.
 */
export class RedisStorage implements Storage {
  readonly #client: Redis | Cluster
  readonly #isOwn: boolean
  readonly #prefix: string
  /** the texts of the documents that `read` gave, for as long as somebody holds them */
  readonly #texts = new WeakMap<StateDocument, string>()
  #closed = false

  /**
   * @param connection a URL, `redis://` or `rediss://`, or a client of ioredis, which stays its maker's to close.
   *   With a URL the first command connects. Default `redis://localhost:6379`.
   * @param options `keyPrefix`, by default `botas:`
   * @throws FST_BOTAS_STATE_INVALID_OPTION where it is neither, or a URL without ioredis installed
   */
  constructor (connection: string | Redis | Cluster = 'redis://localhost:6379', options: RedisStorageOptions = {}) {
    const { keyPrefix = 'botas:' } = options
    if (typeof keyPrefix !== 'string') {
      throw new FST_BOTAS_STATE_INVALID_OPTION('keyPrefix', 'a string', kindOf(keyPrefix))
    }
    this.#prefix = keyPrefix
    this.#isOwn = typeof connection === 'string'
    this.#client = typeof connection === 'string' ? connect(connection) : checkedClient(connection)
  }

  /**
   * The documents of these keys; a key that is not stored is left out. One `GET` each, all in one round trip.
   *
   * @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where a string is no JSON object in UTF-8
   */
  async read (keys: string[]): Promise<Record<string, StateDocument>> {
    const values = await this.#send(() => Promise.all(keys.map((key) => this.#client.getBuffer(this.#prefix + key))))
    const found: Array<[string, StateDocument]> = []
    for (const [index, key] of keys.entries()) {
      const stored = parse(values[index], key)
      if (stored === undefined) continue
      this.#texts.set(stored.document, stored.text)
      found.push([key, stored.document])
    }
    return Object.fromEntries(found)
  }

  /**
   * Replaces whole documents, whatever is stored.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE, and then writes nothing
   */
  async write (changes: Record<string, unknown>): Promise<void> {
    const texts = encodeDocuments(changes)
    await this.#send(() => Promise.all(texts.map(([key, text]) => this.#client.set(this.#prefix + key, text))))
  }

  /** Deletes documents; a key that is not stored is no error. */
  async delete (keys: string[]): Promise<void> {
    await this.#send(() => Promise.all(keys.map((key) => this.#client.del(this.#prefix + key))))
  }

  /**
   * Compare-and-set against what was loaded, or, without that, against nothing; where something else is stored, again
   * against that. Goes on until it succeeds or `change` throws.
   *
   * @throws what `change` throws, and FST_BOTAS_STATE_CORRUPT_DOCUMENT or FST_BOTAS_STATE_NOT_SERIALIZABLE
   */
  async update (key: string, change: ChangeDocument, loaded?: StateDocument): Promise<void> {
    const text = loaded && this.#texts.get(loaded)
    const guess = loaded !== undefined && text !== undefined ? { text, document: loaded } : undefined
    let found = await this.#tryGuess(key, change, guess)
    for (let attempt = 0; found === null || Buffer.isBuffer(found); attempt++) {
      // The first surprise is usually the last. Who keeps losing comes back sooner than those who begin.
      if (attempt > 0) await wait(Math.random() * MAX_PAUSE / attempt)
      const stored = parse(found, key)
      found = await this.#compareAndSet(key, stored?.text, encodeChanged(key, change, stored))
    }
  }

  /** Closes the client if the storage made it. */
  async close (): Promise<void> {
    if (!this.#isOwn || this.#closed) return
    this.#closed = true
    const quit = this.#client.status === 'ready' ? this.#client.quit().catch(() => {}) : undefined
    await Promise.race([quit, wait(QUIT_TIMEOUT, undefined, { ref: false })])
    this.#client.disconnect()
  }

  /** Where the change fails on a guess, that says nothing: it is for what is stored. */
  async #tryGuess (key: string, change: ChangeDocument, guess: StoredDocument | undefined): Promise<ScriptResult> {
    let next: string | undefined
    try {
      next = encodeChanged(key, change, guess)
    } catch {
      return this.#send(() => this.#client.getBuffer(this.#prefix + key))
    }
    return this.#compareAndSet(key, guess?.text, next)
  }

  async #compareAndSet (key: string, stored: string | undefined, next: string | undefined): Promise<ScriptResult> {
    const client = this.#client as unknown as ScriptRunner
    const args = [this.#prefix + key, ...optional(stored), ...optional(next)] as const
    return this.#send(async () => {
      try {
        return await client.evalshaBuffer(COMPARE_AND_SET_SHA, 1, ...args)
      } catch (error) {
        if (!(error as Error).message.startsWith('NOSCRIPT')) throw error
        return client.evalBuffer(COMPARE_AND_SET, 1, ...args)
      }
    })
  }

  /** An error carries the arguments of its command, which are private, and may quote them: only the rest is passed on. */
  async #send<Result> (command: () => Promise<Result>): Promise<Result> {
    try {
      return await command()
    } catch (error) {
      throw new Error(`Redis: ${reasonOf(error as Error)}`)
    }
  }
}

/** A client of ours: it connects with the first command and sends what one tick asks for in one go. */
function connect (url: string): Redis {
  if (!/^rediss?:\/\//.test(url) || !URL.canParse(url)) throw invalidConnection('a string that is no such URL')
  const { Redis } = requireIoredis()
  // A command whose reply was lost with its connection may have been executed: sent again, an update would be applied
  // twice. With no retries it fails instead, and so does what waits for a connection that cannot be made.
  const client = new Redis(url, { lazyConnect: true, enableAutoPipelining: true, maxRetriesPerRequest: 0 })
  // Commands report what goes wrong; without a listener ioredis would print it as well.
  client.on('error', () => {})
  return client
}

/** Needed with a URL only: who passes a client in has it. */
function requireIoredis (): typeof import('ioredis') {
  try {
    return createRequire(import.meta.url)('ioredis')
  } catch {
    throw new FST_BOTAS_STATE_INVALID_OPTION('connection', 'a client, or a URL with the package ioredis installed', 'a URL ' +
      'without it: npm install ioredis')
  }
}

function checkedClient (client: Redis | Cluster): Redis | Cluster {
  const { getBuffer, set, del } = (client ?? {}) as Partial<Redis>
  if ([getBuffer, set, del].some((method) => typeof method !== 'function')) throw invalidConnection(kindOf(client))
  return client
}

function invalidConnection (got: string): Error {
  return new FST_BOTAS_STATE_INVALID_OPTION('connection', 'a redis:// or rediss:// URL or a client of ioredis', got)
}

function reasonOf ({ name, message }: Error): string {
  if (name === 'MaxRetriesPerRequestError') return 'the connection is down, or was lost before the reply came'
  return message.replace(/,? with args beginning with.*/s, '')
}

function parse (bytes: Buffer | null | undefined, key: string): StoredDocument | undefined {
  if (bytes == null) return undefined
  if (!isUtf8(bytes)) throw new FST_BOTAS_STATE_CORRUPT_DOCUMENT(key, 'no UTF-8')
  const text = bytes.toString()
  return { text, document: parseDocument(text, key) }
}

function encodeChanged (key: string, change: ChangeDocument, stored: StoredDocument | undefined): string | undefined {
  const next = change(stored?.document)
  return next === undefined ? undefined : encodeDocument(next, key, stored)
}

function optional (text: string | undefined): [given: '0' | '1', text: string] {
  return text === undefined ? ['0', ''] : ['1', text]
}
