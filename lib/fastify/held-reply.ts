import type { FastifyReply } from 'fastify'
import { awaitFailure } from './payload.js'

/** Ends an onSend hook, as Fastify's `done` does. */
export type Done = (error: Error | null, payload?: unknown) => void

/** What a reply is like at one moment. */
export interface ReplySnapshot {
  readonly statusCode: number
  readonly headers: ReturnType<FastifyReply['getHeaders']>
}

export function snapshotOf (reply: FastifyReply): ReplySnapshot {
  return { statusCode: reply.statusCode, headers: reply.getHeaders() }
}

function restore (reply: FastifyReply, { statusCode, headers }: ReplySnapshot): void {
  for (const name of Object.keys(reply.getHeaders())) reply.removeHeader(name)
  reply.headers(headers)
  reply.raw.statusCode = statusCode
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
  /** who awaits the reply and goes on once it has left */
  readonly awaiting: Array<() => void> = []
  /** before its hooks changed it */
  readonly #before: ReplySnapshot
  /** when it began to wait */
  #passed: ReplySnapshot | undefined

  constructor (reply: FastifyReply, payload: unknown, done: Done, before: ReplySnapshot) {
    this.reply = reply
    this.payload = payload
    this.done = done
    this.#before = before
  }

  /** From now on the reply waits. */
  countAsSent (): void {
    if (this.#passed !== undefined) return
    this.#passed = snapshotOf(this.reply)
    // A stream that fails meanwhile would have no listener. Fastify notices that it has failed when it gets it.
    awaitFailure(this.payload)
    Object.defineProperty(this.reply, 'sent', { configurable: true, get: () => this.isFinal || !isTimedOut(this.reply) })
  }

  /** The reply is about to leave. */
  release (): void {
    this.#letGo()
    if (this.#passed !== undefined) restore(this.reply, this.#passed)
  }

  /** Makes the reply what it was before its hooks: another one takes its place. */
  takeBack (): void {
    this.#letGo()
    restore(this.reply, this.#before)
    destroy(this.payload)
  }

  #letGo (): void {
    if (this.#passed !== undefined) Reflect.deleteProperty(this.reply, 'sent')
    for (const proceed of this.awaiting) queueMicrotask(proceed)
  }
}

function isTimedOut ({ request, elapsedTime }: FastifyReply): boolean {
  const { handlerTimeout = 0 } = request.routeOptions as { handlerTimeout?: number }
  return handlerTimeout > 0 && elapsedTime > handlerTimeout - TIMER_TOLERANCE
}

/** A stream that a hook has made, to compress a reply for instance, is not read by anybody any more. */
function destroy (payload: unknown): void {
  const { destroy } = (payload ?? {}) as { destroy?: unknown }
  if (typeof destroy === 'function') destroy.call(payload)
}
