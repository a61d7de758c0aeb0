import type { Identify } from './fastify/request-turns.js'
import { assertKnownOptions, describeValue, invalidOption } from './storage/option-checks.js'
import { openStorage } from './storage/open-storage.js'
import { type Storage, isStorage } from './storage/storage.js'

/** The options of the plugin. A bare `Storage` in their place stands for `{ storage }`. */
export interface BotasStateOptions {
  /**
   * Where state is kept: a `Storage`, or a URL: `memory:`, `file:./bot-state`, `redis://…`, `rediss://…`. For a Redis
   * URL the package `ioredis` has to be installed. Default `'memory:'`. The plugin closes it with the server.
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
   * save becomes a 500 and the channel can deliver the activity again. Default `'onResponse'`.
   */
  flush?: 'onResponse' | 'onSend' | undefined
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
  assertKnownOptions(given, OWN_OPTIONS, FASTIFY_OPTIONS)
  const { storage = 'memory:', identify, flush = 'onResponse', loadTimeout = 5000, flushTimeout = 30000 } = given
  if (identify !== undefined && typeof identify !== 'function') throw invalid('identify', 'a function', identify)
  if (flush !== 'onResponse' && flush !== 'onSend') throw invalid('flush', '"onResponse" or "onSend"', flush)
  assertMilliseconds('loadTimeout', loadTimeout)
  assertMilliseconds('flushTimeout', flushTimeout)
  if (typeof storage !== 'string' && !isStorage(storage)) {
    throw invalid('storage', 'a URL, or an object with the methods read, write and delete', storage)
  }
  return {
    storage: typeof storage === 'string' ? openStorage(storage) : storage,
    identify,
    flush,
    loadTimeout,
    flushTimeout
  }
}

const OWN_OPTIONS = ['storage', 'identify', 'flush', 'loadTimeout', 'flushTimeout']
/** Options that Fastify's `register` itself reads. */
const FASTIFY_OPTIONS = ['prefix', 'logLevel', 'logSerializers']

function assertMilliseconds (name: string, value: unknown): void {
  if (typeof value !== 'number' || !(value >= 1 && value <= MAX_DELAY)) {
    throw invalid(name, `a number of milliseconds from 1 to ${MAX_DELAY}`, value)
  }
}

function invalid (option: string, expected: string, value: unknown): Error {
  return invalidOption(option, expected, describeValue(value))
}
