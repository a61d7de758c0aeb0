import type { Http2ServerResponse, ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'
import { isResponse, isStream, watchStream } from './stream-payload.js'
import type { Turn } from './turn.js'

/**
 * The request and reply of a turn, as far as they decide when and how it ends.
 *
 * A turn ends when its reply has left. Where the handler may still be at work then, because it took over the reply,
 * streams it or lost its client, the turn ends with the handler. Fastify's onResponse hook tells neither: over HTTP/1 it
 * does not run for a client that went away, over HTTP/2 it then runs in the middle of the handler. The `close` event of
 * the raw response and the promise of the handler are what to go by.
 */
export class Exchange {
  readonly turn: Turn
  readonly #request: FastifyRequest
  readonly #patience: number
  #reply: FastifyReply | undefined
  /** no more of the reply can reach the client */
  #closed = false
  /** how far the handler is; one that gave no promise is never seen at work */
  #handler: 'unseen' | 'running' | 'returned nothing' | 'returned a reply' = 'unseen'
  /** how far the reply is */
  #sent: 'no' | 'through the hooks' | 'whole' | 'as a stream' = 'no'
  /** the handler returned or awaited the reply itself, which says that somebody else is to send it */
  #awaited = false
  /** who waits for the reply to be sent or closed */
  #waiting: Array<() => void> | undefined
  #ended = false

  /** @param patience how many milliseconds a handler without promise has to reply after its client left */
  constructor (turn: Turn, request: FastifyRequest, patience: number) {
    this.turn = turn
    this.#request = request
    this.#patience = patience
  }

  /** Whether the request was found to be a turn. */
  get watched (): boolean {
    return this.#reply !== undefined
  }

  /** Whether the turn is over, or as good as: nothing is left to save before the reply leaves. */
  get settled (): boolean {
    return this.#ended || this.turn.failed
  }

  /** Begins to look out for the end. */
  watch (reply: FastifyReply): void {
    this.#reply = reply
    this.turn.begin()
    watchReply(reply)
    if (this.#isGone(reply)) this.#onClose(reply)
    else onceClosed(reply, () => this.#onClose(reply))
  }

  /** Runs the handler. It has failed where it throws, even where it took over the reply before and no hook hears of it. */
  observe (handler: RouteHandlerMethod, server: FastifyInstance, reply: FastifyReply): unknown {
    try {
      const result: unknown = handler.call(server, this.#request, reply)
      if (result === reply || !isThenable(result)) return result
      // A query that runs when it is awaited must not be awaited twice; a promise is given back as it is.
      const promise = Promise.resolve(result)
      this.#handler = 'running'
      promise.then((payload) => this.#onReturn(payload), () => this.fail())
      return promise
    } catch (error) {
      this.fail()
      throw error
    }
  }

  /** The turn has failed, for good. */
  fail (): void {
    this.turn.fail()
    this.#endIfOver()
  }

  /**
   * The reply is about to leave: the turn has succeeded, unless it failed before or the reply says so.
   *
   * @param payload as the onSend hook has it
   * @returns what to send in place of the payload
   */
  answer (reply: FastifyReply, payload: unknown): unknown {
    const streamed = isStream(payload)
    this.#sent = streamed ? 'as a stream' : 'whole'
    const status = isResponse(payload) ? payload.status : reply.statusCode
    if (status >= 500) this.turn.fail()
    if (this.#isGone(reply)) this.#closed = true
    this.#endIfOver()
    if (!streamed) return payload
    // Once the client is gone Fastify destroys the stream, which is no failure of the turn's.
    return watchStream(payload, () => { if (!this.#closed && !this.#isGone(reply)) this.fail() })
  }

  /** Ends the turn before the reply leaves. */
  end (): Promise<void> | undefined {
    this.#ended = true
    return this.turn.end()
  }

  #onClose (reply: FastifyReply): void {
    if (this.#closed) return
    this.#closed = true
    if (isBrokenOff(reply)) this.turn.fail()
    this.#endIfOver()
    if (!this.#ended) this.#giveUpLater()
    for (const fulfilled of this.#waiting ?? []) fulfilled()
  }

  #onReturn (payload: unknown): void {
    if (payload !== undefined) this.#handler = 'returned a reply'
    else this.#handler = this.#awaited ? 'unseen' : 'returned nothing'
    this.#endIfOver()
  }

  #endIfOver (): void {
    if (!this.#closed || !(this.#ended || this.#isOver())) return
    this.turn.state.temp.seal()
    if (this.#ended) return
    if ((this.#reply as FastifyReply).statusCode >= 500) this.turn.fail()
    this.end()?.catch((err: Error & { code?: string }) => {
      this.#request.log.error({ err, code: err.code, keys: this.turn.keys }, 'the state of a turn was not saved')
    })
  }

  /** Whether nothing more is to come of a turn whose response is closed. */
  #isOver (): boolean {
    if (this.turn.failed || this.#sent === 'whole') return true
    if (this.#sent === 'through the hooks' || this.#handler === 'running') return false
    // Where the client is gone Fastify sends what a handler returns, with all hooks, but nothing where it returns nothing.
    return this.#sent === 'as a stream' || this.#handler === 'returned nothing' || this.#reply?.sent === true
  }

  /** The handler, or Fastify for it, sends the reply. */
  sending (reply: FastifyReply): void {
    // Of a reply that was sent otherwise Fastify takes no notice.
    if (this.#sent === 'no' && !reply.sent) this.#sent = 'through the hooks'
  }

  /** The handler took over the reply. */
  hijacked (): void {
    this.#endIfOver()
  }

  /**
   * The handler awaits the reply.
   *
   * @returns whether it has come to its end already: over HTTP/2 Fastify leaves those waiting whose client left
   */
  awaited (fulfilled: () => void): boolean {
    this.#awaited = true
    if (!this.#closed) (this.#waiting ??= []).push(fulfilled)
    return this.#closed
  }

  /** A handler without promise may see no use in a reply to nobody, and is then never heard of again. */
  #giveUpLater (): void {
    setTimeout(() => {
      if (this.#sent === 'no' && this.#handler === 'unseen') this.#handler = 'returned nothing'
      this.#endIfOver()
    }, this.#patience).unref()
  }

  #isGone ({ raw }: FastifyReply): boolean {
    return raw.destroyed || this.#request.raw.socket?.destroyed === true || http2StreamOf(raw)?.aborted === true
  }
}

/** Where a request keeps its exchange. */
export const kExchange = Symbol('fastify-botas-state.exchange')

/** The exchange of a request that is a turn. */
export function exchangeIn (request: FastifyRequest): Exchange | undefined {
  const exchange = (request as unknown as { [kExchange]: Exchange | null })[kExchange]
  return exchange?.watched === true ? exchange : undefined
}

/** Marks the prototypes of replies that are watched: each server has its own, and so has each of its plugins that decorates replies. */
const kWatched = Symbol('fastify-botas-state.watched')

/** Notes what the handler does with the reply: no hook tells when it begins, and none where the client is gone. */
function watchReply (reply: FastifyReply): void {
  if (kWatched in reply) return
  const prototype = Object.getPrototypeOf(reply)
  const { send, hijack, then } = prototype as FastifyReply
  Object.assign(prototype, {
    [kWatched]: true,
    send (this: FastifyReply, payload?: unknown) {
      exchangeIn(this.request)?.sending(this)
      return send.call(this, payload)
    },
    hijack (this: FastifyReply) {
      hijack.call(this)
      exchangeIn(this.request)?.hijacked()
      return this
    },
    then (this: FastifyReply, fulfilled: () => void, rejected: (error: Error) => void) {
      if (exchangeIn(this.request)?.awaited(fulfilled) === true) return fulfilled()
      then.call(this, fulfilled, rejected)
    }
  })
}

/** Whether a value is to be awaited, by the sign that Fastify goes by. */
export function isThenable<Value> (value: unknown): value is PromiseLike<Value> {
  return typeof (value as PromiseLike<Value> | null | undefined)?.then === 'function'
}

/**
 * Whether the server destroyed the response with an error: Fastify does, where a started one cannot be completed, after
 * a timeout for instance, and no hook tells. Over HTTP/2 an error code of the client's is an error of the stream, too, and
 * from Node 24 on a response that still waits for the connection has one when the client closes that.
 */
function isBrokenOff ({ raw, request }: FastifyReply): boolean {
  const error = (raw.errored ?? http2StreamOf(raw)?.errored ?? null) as NodeJS.ErrnoException | null
  const isConnectionGone = raw.socket === null && request.raw.socket?.destroyed === true
  const codeOfClient = isConnectionGone ? 'ECONNRESET' : 'ERR_HTTP2_STREAM_ERROR'
  return error !== null && error.code !== codeOfClient
}

function http2StreamOf (raw: object): ServerHttp2Stream | undefined {
  return (raw as Partial<Http2ServerResponse>).stream
}

/** Who waits for a socket: one listener serves all the requests that a client has pipelined. */
const pipelined = new WeakMap<Socket, Set<() => void>>()

/** Calls back when a response is closed, whether it was sent or not. */
function onceClosed ({ raw, request }: FastifyReply, closed: () => void): void {
  // A response that waits behind an earlier one on the same connection has no socket yet, and hears nothing of its end.
  const socket = raw.socket === null ? request.raw.socket : undefined
  if (socket === undefined) {
    raw.on('close', closed)
    return
  }
  const waiting = pipelined.get(socket) ?? listenOnce(socket)
  waiting.add(closed)
  raw.on('close', () => {
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
