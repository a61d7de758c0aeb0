import { isDeepStrictEqual } from 'node:util'
import type { FastifyReply } from 'fastify'
import { awaitFailure, discard, isDestroyed, isStream } from './payload.js'
import { overrideSent, restoreSent } from './reply-watch.js'

/** Ends an onSend hook, as Fastify's `done` does. */
export type Done = (error: Error | null, payload?: unknown) => void

/** What a reply is like at one moment. */
export interface ReplySnapshot {
  readonly statusCode: number
  readonly headers: ReturnType<FastifyReply['getHeaders']>
}

export function snapshotOf (reply: FastifyReply): ReplySnapshot {
  const headers = reply.getHeaders()
  for (const [name, value] of Object.entries(headers)) if (Array.isArray(value)) headers[name as 'set-cookie'] = [...value]
  return { statusCode: reply.statusCode, headers }
}

/** Makes a reply what it was. What did not change is left alone: the names of raw headers keep their case. */
function restore (reply: FastifyReply, { statusCode, headers }: ReplySnapshot): void {
  const now = reply.getHeaders()
  for (const name of Object.keys({ ...now, ...headers })) {
    const value = headers[name]
    if (isDeepStrictEqual(now[name], value)) continue
    reply.removeHeader(name)
    if (value !== undefined) reply.header(name, value)
  }
  reply.raw.statusCode = statusCode
}

/** Removes the status and the headers that onSend hooks have set, by which `passed` differs from `before`; keeps what was set since. */
function undo (reply: FastifyReply, before: ReplySnapshot, passed: ReplySnapshot): void {
  const now = snapshotOf(reply)
  const own = Object.entries(now.headers).filter(([name, value]) => !isDeepStrictEqual(value, passed.headers[name]))
  restore(reply, {
    statusCode: now.statusCode === passed.statusCode ? before.statusCode : now.statusCode,
    headers: { ...before.headers, ...Object.fromEntries(own) }
  })
}

/** How far a timer of Node's may be ahead of the clock, in milliseconds. */
const TIMER_TOLERANCE = 2

/**
 * A reply that has passed all hooks and waits for the handler or for the save. Without the plugin it would have been sent by
 * then: so it counts as sent, stays as it is, and Fastify refuses another one. Only `handlerTimeout` may still end the
 * waiting for the handler.
 */
export class HeldReply {
  readonly reply: FastifyReply
  readonly done: Done
  payload: unknown
  /** whether it is known what is to leave */
  isReady = true
  /** the turn is decided: not even the timeout of the handler makes it another reply */
  isFinal = false
  /** before its hooks changed it */
  readonly #before: ReplySnapshot
  /** when it began to wait */
  #passed: ReplySnapshot
  #countsAsSent = false

  constructor (reply: FastifyReply, payload: unknown, done: Done, before: ReplySnapshot) {
    this.reply = reply
    this.payload = payload
    this.done = done
    this.#before = this.#passed = before
  }

  /** From now on the reply waits. */
  countAsSent (): void {
    if (this.#countsAsSent) return
    this.#countsAsSent = true
    this.#passed = snapshotOf(this.reply)
    // Its owner may use a buffer again that was sent.
    if (Buffer.isBuffer(this.payload)) this.payload = Buffer.from(this.payload)
    // A stream that fails meanwhile would have no listener. Fastify notices that it has failed when it gets it.
    awaitFailure(this.payload)
    overrideSent(this.reply, () => this.isFinal || !isTimedOut(this.reply))
  }

  /**
   * The reply is about to leave. What Fastify writes bit by bit goes on to count as sent: without the plugin it would have
   * been written before the handler was done.
   */
  release (): void {
    this.#letGo()
    if (!this.#countsAsSent) return
    restore(this.reply, this.#passed)
    const { reply: { raw }, payload } = this
    overrideSent(this.reply, () => !isStream(payload) || (raw.headersSent ? raw.writableEnded : !isDestroyed(payload)))
  }

  /** Makes the reply what it was before its hooks: another one takes its place. */
  takeBack (): void {
    this.#letGo()
    undo(this.reply, this.#before, this.#passed)
    discard(this.payload)
  }

  #letGo (): void {
    if (this.#countsAsSent) restoreSent(this.reply)
  }
}

/**
 * Whether Fastify's timer for the handler is about to fire. It does nothing where `reply.sent` is true, and is cleared, with
 * the signal aborted, once the body was read: https://github.com/fastify/fastify/pull/6725
 */
function isTimedOut ({ request, elapsedTime }: FastifyReply): boolean {
  const { handlerTimeout = 0 } = request.routeOptions as { handlerTimeout?: number }
  if (handlerTimeout === 0 || elapsedTime < handlerTimeout - TIMER_TOLERANCE) return false
  const { aborted, reason } = request.signal
  return !aborted || reason?.code === 'FST_ERR_HANDLER_TIMEOUT'
}
