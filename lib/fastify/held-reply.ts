import type { FastifyReply } from 'fastify'
import { awaitFailure } from './payload.js'

/** Ends an onSend hook, as Fastify's `done` does. */
export type Done = (error: Error | null, payload?: unknown) => void

/** What a reply was like before its hooks changed it. */
export interface ReplySnapshot {
  statusCode: number
  headers: ReturnType<FastifyReply['getHeaders']>
}

export function snapshotOf (reply: FastifyReply): ReplySnapshot {
  return { statusCode: reply.statusCode, headers: reply.getHeaders() }
}

/** How far a timer of Node's may be ahead of the clock, in milliseconds. */
const TIMER_TOLERANCE = 2

/**
 * A reply that has passed all hooks and waits for the handler or for the save. Without the plugin it would have been sent by
 * then: so it counts as sent, and Fastify refuses another one. Only `handlerTimeout` may still end the waiting for the handler.
 */
export class HeldReply {
  readonly reply: FastifyReply
  readonly done: Done
  payload: unknown
  /** the turn is decided: not even the timeout of the handler makes it another reply */
  isFinal = false
  /** who awaits the reply and goes on once it has left */
  readonly awaiting: Array<() => void> = []
  readonly #before: ReplySnapshot
  #countsAsSent = false

  constructor (reply: FastifyReply, payload: unknown, done: Done, before: ReplySnapshot) {
    this.reply = reply
    this.payload = payload
    this.done = done
    this.#before = before
  }

  /** From now on the reply waits. */
  countAsSent (): void {
    if (this.#countsAsSent) return
    this.#countsAsSent = true
    // A stream that fails meanwhile would have no listener. Fastify notices that it has failed when it gets it.
    awaitFailure(this.payload)
    Object.defineProperty(this.reply, 'sent', { configurable: true, get: () => this.isFinal || !isTimedOut(this.reply) })
  }

  /** The reply is about to leave. */
  release (): void {
    if (this.#countsAsSent) Reflect.deleteProperty(this.reply, 'sent')
    for (const proceed of this.awaiting) queueMicrotask(proceed)
  }

  /** Makes the reply what it was before its hooks: another one takes its place. */
  takeBack (): void {
    this.release()
    const { reply } = this
    for (const name of Object.keys(reply.getHeaders())) reply.removeHeader(name)
    reply.headers(this.#before.headers)
    reply.raw.statusCode = this.#before.statusCode
    destroy(this.payload)
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
