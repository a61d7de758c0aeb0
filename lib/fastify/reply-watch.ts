import type { FastifyReply } from 'fastify'

/** Who is told what becomes of a reply. */
export interface ReplyWatcher {
  /** A reply is sent, and begins to pass the hooks. Not called for one that Fastify refuses, because another was sent. */
  sending(payload: unknown): void
  /** The status is about to change, though another one was sent. */
  statusSent(status: number): void
  /**
   * Somebody awaits the reply.
   *
   * @param proceed lets Fastify wait for it
   * @param fulfilled ends the waiting
   */
  awaited(proceed: () => void, fulfilled: () => void): void
}

/** Marks the prototypes that are patched: each server has its own, and so has each of its plugins that decorates replies. */
const kWatched = Symbol('fastify-botas-state.watched')

/**
 * Tells what is done with replies, by way of their prototype. No hook of Fastify's (5.8 to 5.12) tells when a reply is
 * handed over, or that a handler awaits it, see https://github.com/fastify/fastify/issues/1864 for
 * the last.
 *
 * @param watcherOf who watches a reply, if anybody
 */
export function watchReplies (reply: FastifyReply, watcherOf: (reply: FastifyReply) => ReplyWatcher | undefined): void {
  if (kWatched in reply) return
  const prototype = Object.getPrototypeOf(reply)
  const { send, code, then } = prototype as FastifyReply
  const watchedCode = function (this: FastifyReply, status: number): FastifyReply {
    if (this.raw.headersSent) watcherOf(this)?.statusSent(this.statusCode)
    return code.call(this, status)
  }
  Object.assign(prototype, {
    [kWatched]: true,
    code: watchedCode,
    status: watchedCode,
    send (this: FastifyReply, payload?: unknown) {
      if (!this.sent) watcherOf(this)?.sending(payload)
      return send.call(this, payload)
    },
    then (this: FastifyReply, fulfilled: () => void, rejected: (error: Error) => void) {
      const proceed = (): void => then.call(this, fulfilled, rejected)
      const watcher = watcherOf(this)
      if (watcher === undefined) proceed()
      else watcher.awaited(proceed, fulfilled)
    }
  })
}

/** What `reply.sent` says in place of Fastify, if anything. */
const kSent = Symbol('fastify-botas-state.sent')

interface OverridableReply extends FastifyReply {
  [kSent]?: (() => boolean) | undefined
}

/** One getter for all replies, which is never removed: V8 would give each reply a hidden class of its own. */
const SENT: PropertyDescriptor = {
  configurable: true,
  get (this: OverridableReply) {
    const isSent = this[kSent]
    return isSent === undefined ? sentByFastify(this) : isSent()
  }
}

/** What the getter says that is overridden: that of a prototype. An object that inherits from a reply may ask, too. */
function sentByFastify (reply: object): unknown {
  let owner = reply
  while (Object.getOwnPropertyDescriptor(owner, 'sent') === undefined || isOverrider(owner)) owner = Object.getPrototypeOf(owner)
  return Reflect.get(owner, 'sent', reply)
}

function isOverrider (owner: object): boolean {
  return Object.getOwnPropertyDescriptor(owner, 'sent')?.get === SENT.get
}

/** `reply.sent` is what Fastify goes by. */
export function overrideSent (reply: OverridableReply, isSent: () => boolean): void {
  if (!Object.hasOwn(reply, 'sent')) Object.defineProperty(reply, 'sent', SENT)
  reply[kSent] = isSent
}

/** The reply counts as sent no more: where it could not be written, Fastify sends an error in its place. */
export function restoreSent (reply: OverridableReply): void {
  if (isSentOverridden(reply)) reply[kSent] = undefined
}

export function isSentOverridden (reply: OverridableReply): boolean {
  return reply[kSent] !== undefined
}
