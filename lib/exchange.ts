import type { Socket } from 'node:net'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { isStream, watchStream } from './stream-payload.js'
import type { Turn } from './turn.js'

/**
 * The request and reply of a turn, as far as they decide when and how it ends.
 *
 * A turn ends when its reply has left, or, where the client is gone before that, when its handler is done. Fastify's
 * onResponse hook says neither: over HTTP/1 it does not run for a client that went away, over HTTP/2 it then runs while
 * the handler is still at work. The `close` event of the raw response is the reliable one.
 */
export class Exchange {
  readonly turn: Turn
  readonly #request: FastifyRequest
  #reply: FastifyReply | undefined
  /** the handler is done and all onSend hooks but the last ones have passed */
  #answered = false
  /** no reply can reach the client any more */
  #closed = false
  /** somebody called `reply.send` after the client was gone, so the hooks for a reply will still run */
  #sending = false

  constructor (turn: Turn, request: FastifyRequest) {
    this.turn = turn
    this.#request = request
  }

  /** Whether the request was found to be a turn. */
  get watched (): boolean {
    return this.#reply !== undefined
  }

  /** Begins to look out for the end. */
  watch (reply: FastifyReply): void {
    this.#reply = reply
    if (this.#isGone(reply)) this.#onClose(reply)
    else onceClosed(reply, () => this.#onClose(reply))
  }

  /**
   * The reply is about to leave: the turn has succeeded, unless it failed before or the reply says so.
   *
   * @param payload as the onSend hook has it
   * @returns what to send in place of the payload
   */
  answer (reply: FastifyReply, payload: unknown): unknown {
    this.#answered = true
    const status = payload instanceof Response ? payload.status : reply.statusCode
    if (status >= 500) this.turn.fail()
    if (this.#closed || this.#isGone(reply)) this.#end()
    return isStream(payload) ? watchStream(payload, () => this.turn.fail()) : payload
  }

  /** Runs the handler. It has failed where it throws, even where it took over the reply before and no hook hears of it. */
  observe (handler: () => unknown): unknown {
    try {
      const result = handler()
      if (result instanceof Promise) result.then((payload) => this.#returned(payload), () => this.turn.fail())
      return result
    } catch (error) {
      this.turn.fail()
      throw error
    }
  }

  /** Where the client is gone Fastify sends nothing for a handler that returns nothing, and runs no more hook. */
  #returned (payload: unknown): void {
    if (payload === undefined && this.#closed && !this.#sending && !this.#answered) this.#end()
  }

  #onClose (reply: FastifyReply): void {
    if (this.#closed) return
    this.#closed = true
    // Fastify destroys a response with an error where a started one cannot be completed, after a timeout for instance.
    if (reply.raw.errored != null) this.turn.fail()
    const takenOver = !this.#answered && reply.sent
    if (takenOver || this.#answered || this.turn.failed) this.#end()
    else this.#awaitHandler(reply)
  }

  /** The client left and the handler is at work: what it does with the reply is the only sign of its end. */
  #awaitHandler (reply: FastifyReply): void {
    const { send, hijack } = reply
    reply.send = (payload?: unknown) => {
      this.#sending = true
      return send.call(reply, payload)
    }
    reply.hijack = () => {
      hijack.call(reply)
      this.#end()
      return reply
    }
  }

  #end (): void {
    if ((this.#reply as FastifyReply).raw.statusCode >= 500) this.turn.fail()
    this.turn.end().catch((err: Error & { code?: string }) => {
      this.#request.log.error({ err, code: err.code, keys: this.turn.keys }, 'the state of a turn was not saved')
    })
  }

  #isGone ({ raw }: FastifyReply): boolean {
    return raw.destroyed || this.#request.raw.socket?.destroyed === true
  }
}

/** Who waits for a socket: one listener serves all the requests that a client has pipelined. */
const pipelined = new WeakMap<Socket, Set<() => void>>()

/** Calls back when a response is closed, whether it was sent or not. */
function onceClosed ({ raw, request }: FastifyReply, closed: () => void): void {
  // A response that waits behind an earlier one on the same connection has no socket yet, and hears nothing of its end.
  const socket = raw.socket === null ? request.raw.socket : undefined
  if (socket === undefined) {
    raw.once('close', closed)
    return
  }
  const waiting = pipelined.get(socket) ?? listenOnce(socket)
  waiting.add(closed)
  raw.once('close', () => {
    waiting.delete(closed)
    closed()
  })
}

function listenOnce (socket: Socket): Set<() => void> {
  const waiting = new Set<() => void>()
  pipelined.set(socket, waiting)
  socket.once('close', () => { for (const closed of waiting) closed() })
  return waiting
}
