import { isObject } from './document/describe-type.js'
import { type DocumentsOptions, checkDocumentsOption } from './document-options.js'
import type { Identify, StrategyOf } from './fastify/request-turns.js'
import { assertKnownOptions, assertWholeNumber, describeValue, invalidOption } from './storage/option-checks.js'
import { openStorage } from './storage/open-storage.js'
import { type Storage, isStorage } from './storage/storage.js'
import type { ScopeRules } from './turn/turn-documents.js'
import { type OnceLimits, type PlaceLimits, STRATEGIES, type Strategy, isStrategy } from './turn/overlap/terms.js'

/**
 * What becomes of a turn that meets another one of its conversation. `'parallel'`: it runs beside it, and changes are merged by key.
 * `'queue'`: it waits, and sees all that the one before it stored. `'reject'`: 409 `FST_BOTAS_STATE_BUSY`. `'replace'`: the
 * earlier one is aborted, and nothing of it is saved.
 */
export type ConcurrencyStrategy = Strategy

/** The option `concurrency`, with its limits. */
export interface ConcurrencyOptions {
  /** Default `'parallel'`; a function chooses for each request. */
  strategy?: ConcurrencyStrategy | StrategyOf | undefined
  /** Milliseconds that a turn waits for its place; then it gets 503 `FST_BOTAS_STATE_BUSY` with `Retry-After`. Default 60000. */
  maxWait?: number | undefined
  /** The most turns of one conversation that wait in this process; one more gets the same 503. Default 20. */
  maxWaiting?: number | undefined
  /**
   * Milliseconds after which others take the places of a process that died or hangs. It is renewed at a third for as long as a
   * turn is open, so that a handler may take longer. Default 30000.
   */
  lease?: number | undefined
}

/** The option `once`, with its limits. */
export interface OnceOptions {
  /** Whole seconds for which an activity is remembered that was handled. Default 86400, a day. */
  ttl?: number | undefined
  /** The longest reply that is kept for later deliveries, in bytes; of a longer one they get status and headers. Default 16384. */
  keepReply?: number | undefined
  /** Milliseconds that a delivery waits while another one is handled; then it gets 503 `FST_BOTAS_STATE_BUSY`. Default 60000. */
  maxWait?: number | undefined
}

/** The options of the plugin. A bare `Storage` in their place stands for `{ storage }`. */
export interface BotasStateOptions {
  /**
   * Where state is kept: a `Storage`, or a URL: `memory:`, `file:./bot-state`, `redis://…`, `rediss://…`, `postgres://…`. For a URL
   * of Redis the package `ioredis` has to be installed, for one of Postgres `pg`. Default `'memory:'`. The plugin closes it with the server.
   */
  storage?: Storage | string | undefined
  /**
   * Whose turn a request is; `undefined` where it is none. Asked in onRequest, where the body is not there yet, and
   * once more in preValidation if it could not tell. Default: `(request) => activityIdentity(request.body)`.
   *
   * @example
   * identify: ({ params }) => ({ channelId: 'web', botId: 'helper', conversationId: params.id })
   */
  identify?: Identify | undefined
  /**
   * When changes are saved: `'onResponse'`, after the response has left, or `'onSend'`, before it, so that a failed
   * save becomes a 500 and the channel can deliver the activity again. Default `'onResponse'`; with `once` `'onSend'`.
   */
  flush?: 'onResponse' | 'onSend' | undefined
  /**
   * What becomes of a turn that meets another one of its conversation, or of its user where there is no conversation: a strategy,
   * with or without limits, or a function that chooses one for each request. Default `'parallel'`.
   *
   * @example
   * concurrency: ({ body }) => (body as Activity).type === 'message' ? 'queue' : 'parallel'
   */
  concurrency?: ConcurrencyStrategy | StrategyOf | ConcurrencyOptions | undefined
  /**
   * With `true`, or limits, an activity is handled once: later deliveries get the reply of the first one that succeeded. Its id
   * is `activityId` of `identify` or `run`, by default `body.id`. Default `false`.
   */
  once?: boolean | OnceOptions | undefined
  /**
   * What the documents of conversations and users have to be like: schemas, and versions with their upgrades. Default: anything.
   *
   * @example
   * documents: { user: { schema: z.object({ name: z.string().optional() }), version: { key: 'schemaVersion', upgrades: { 2: rename } } } }
   */
  documents?: DocumentsOptions | undefined
  /** Milliseconds after which a load fails the turn. Default 5000. */
  loadTimeout?: number | undefined
  /** Milliseconds after which a save is given up and reported. It also bounds the other waits at the end of a turn, and of the
   * server: for a handler that may never reply, and for open turns. Default 30000. */
  flushTimeout?: number | undefined
}

/** Options that were checked, with every default in place. */
export interface CheckedOptions {
  storage: Storage
  /** `undefined` stands for the default */
  identify: BotasStateOptions['identify']
  flush: 'onResponse' | 'onSend'
  concurrency: { strategy: Strategy | StrategyOf, limits: PlaceLimits }
  once: OnceLimits | undefined
  /** `undefined` where documents may be anything */
  rules: ScopeRules | undefined
  loadTimeout: number
  flushTimeout: number
}

/** The longest delay of a Node timer; anything longer would fire at once. */
const MAX_DELAY = 2 ** 31 - 1

/**
 * Checks the options and opens the storage that they name.
 *
 * @throws FST_BOTAS_STATE_INVALID_OPTION naming the option and, unless a password may be in it, its value
 */
export function checkOptions (options: BotasStateOptions | Storage): CheckedOptions {
  const given: BotasStateOptions = isStorage(options) ? { storage: options } : options
  assertPluginOptions(given)
  const concurrency = checkConcurrency(given.concurrency)
  const once = checkOnce(given.once)
  const rules = checkDocumentsOption(given.documents)
  const { storage = 'memory:', identify, flush = once === undefined ? 'onResponse' : 'onSend', loadTimeout = 5000, flushTimeout = 30000 } = given
  if (identify !== undefined && typeof identify !== 'function') throw invalid('identify', 'a function', identify)
  if (flush !== 'onResponse' && flush !== 'onSend') throw invalid('flush', '"onResponse" or "onSend"', flush)
  assertMilliseconds('loadTimeout', loadTimeout)
  assertMilliseconds('flushTimeout', flushTimeout)
  if (typeof storage !== 'string' && !isStorage(storage)) {
    throw invalid('storage', 'a URL, or an object with the methods read, write and delete, such as a PostgresStorage', storage)
  }
  return {
    storage: typeof storage === 'string' ? openStorage(storage) : storage,
    identify,
    flush,
    concurrency,
    once,
    rules,
    loadTimeout,
    flushTimeout
  }
}

/**
 * Accepts any values.
 *
 * @throws FST_BOTAS_STATE_INVALID_OPTION for a name that is none of an option of the plugin
 */
export function assertPluginOptions (options: object): void {
  assertKnownOptions(options, OWN_OPTIONS, FASTIFY_OPTIONS)
}

const OWN_OPTIONS = ['storage', 'identify', 'flush', 'concurrency', 'once', 'documents', 'loadTimeout', 'flushTimeout']
/** Options that Fastify's `register` itself reads. */
const FASTIFY_OPTIONS = ['prefix', 'logLevel', 'logSerializers']

function checkConcurrency (given: BotasStateOptions['concurrency'] = 'parallel'): CheckedOptions['concurrency'] {
  const options: ConcurrencyOptions = isObject(given) ? given : { strategy: given as Strategy }
  assertKnownOptions(options, ['strategy', 'maxWait', 'maxWaiting', 'lease'], [], 'concurrency.')
  const { strategy = 'parallel', maxWait = 60_000, maxWaiting = 20, lease = 30_000 } = options
  if (typeof strategy !== 'function' && !isStrategy(strategy)) {
    throw invalid(isObject(given) ? 'concurrency.strategy' : 'concurrency', `one of ${STRATEGIES.join(', ')}, or a function of the request`, strategy)
  }
  assertMilliseconds('concurrency.maxWait', maxWait)
  if (!Number.isSafeInteger(maxWaiting) || maxWaiting < 0) throw invalid('concurrency.maxWaiting', 'a whole number of turns', maxWaiting)
  assertMilliseconds('concurrency.lease', lease)
  if (!Number.isInteger(lease)) throw invalid('concurrency.lease', 'a whole number of milliseconds', lease)
  return { strategy, limits: { maxWait, maxWaiting, lease } }
}

function checkOnce (given: BotasStateOptions['once'] = false): OnceLimits | undefined {
  if (given === false) return undefined
  if (given !== true && !isObject(given)) throw invalid('once', 'true, false or an object', given)
  const options: OnceOptions = given === true ? {} : given
  assertKnownOptions(options, ['ttl', 'keepReply', 'maxWait'], [], 'once.')
  const { ttl = 86_400, keepReply = 16_384, maxWait = 60_000 } = options
  assertWholeNumber('once.ttl', ttl, 'seconds')
  if (!Number.isSafeInteger(keepReply) || keepReply < 0) throw invalid('once.keepReply', 'a whole number of bytes', keepReply)
  assertMilliseconds('once.maxWait', maxWait)
  return { ttl, keepReply, maxWait }
}

function assertMilliseconds (name: string, value: unknown): void {
  if (typeof value !== 'number' || !(value >= 1 && value <= MAX_DELAY)) {
    throw invalid(name, `a number of milliseconds from 1 to ${MAX_DELAY}`, value)
  }
}

function invalid (option: string, expected: string, value: unknown): Error {
  return invalidOption(option, expected, describeValue(value))
}
