import type { Http2ServerResponse, ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import type { FastifyReply } from 'fastify'

/** Whether nothing of a reply can reach the client any more. */
export function isGone ({ raw, request }: FastifyReply): boolean {
  return raw.destroyed || request.raw.socket?.destroyed === true || http2StreamOf(raw)?.aborted === true
}

/**
 * Looks at the connection of a reply, before its response is closed.
 *
 * @returns whether it has broken, so that an error of the response is no error of the server's: over HTTP/2 always, over
 *   HTTP/1.1 from Node 24 on where the response still waits for the connection
 */
export function watchConnection ({ raw, request }: FastifyReply): () => boolean {
  // A stream that is closed does not know its session any more.
  const session = http2StreamOf(raw)?.session
  return session === undefined
    ? () => raw.socket === null && request.raw.socket?.destroyed === true
    : () => session.destroyed
}

/**
 * The error with which the server destroyed a response: Fastify does, where a started one cannot be completed, after a
 * timeout for instance, and no hook tells. Over HTTP/2 an error code of the client's is an error of the response, too.
 */
export function errorOfServer ({ raw }: FastifyReply, isConnectionBroken: () => boolean): NodeJS.ErrnoException | undefined {
  const error = (raw.errored ?? http2StreamOf(raw)?.errored ?? undefined) as NodeJS.ErrnoException | undefined
  return error?.code === 'ERR_HTTP2_STREAM_ERROR' || isConnectionBroken() ? undefined : error
}

/** Calls back when somebody ends a response whose client is gone: Node has no event for that, see https://github.com/nodejs/node/issues/7436 */
export function onceEnded ({ raw }: FastifyReply, ended: () => void): void {
  const end = raw.end as (...args: unknown[]) => unknown
  Object.assign(raw, {
    end (...args: unknown[]) {
      Object.assign(raw, { end })
      const result = end.apply(raw, args)
      ended()
      return result
    }
  })
}

/**
 * Looks at the body of a reply that is streamed.
 *
 * @returns whether it has left: with a content-length when so many bytes have, which may be before its source ends
 */
export function watchBody ({ raw }: FastifyReply): () => boolean {
  const length = Number(raw.getHeader('content-length'))
  if (Number.isNaN(length)) return () => raw.writableEnded
  const write = raw.write as (chunk: string | Uint8Array, ...rest: unknown[]) => boolean
  let written = 0
  Object.assign(raw, {
    write (chunk: string | Uint8Array, ...rest: unknown[]) {
      written += Buffer.byteLength(chunk)
      return write.call(raw, chunk, ...rest)
    }
  })
  return () => raw.writableEnded || written >= length
}

function http2StreamOf (raw: object): ServerHttp2Stream | undefined {
  return (raw as Partial<Http2ServerResponse>).stream
}

/** Who waits for a socket: one listener serves all the requests that a client has pipelined. */
const pipelined = new WeakMap<Socket, Waiting>()

/** Calls back when a response is closed, whether it was sent or not. */
export function onceClosed ({ raw, request }: FastifyReply, closed: () => void): void {
  // A response that waits behind an earlier one on the same connection has no socket yet, and hears nothing of its end.
  const socket = raw.socket === null ? request.raw.socket : undefined
  if (socket === undefined) {
    raw.on('close', closed)
    return
  }
  const waiting = pipelined.get(socket) ?? new Waiting(socket)
  waiting.add(closed)
  raw.on('close', () => {
    waiting.delete(closed)
    closed()
  })
}

class Waiting {
  readonly #socket: Socket
  readonly #callbacks = new Set<() => void>()
  readonly #onClose = (): void => {
    for (const callback of this.#callbacks) {
      this.delete(callback)
      callback()
    }
  }

  constructor (socket: Socket) {
    this.#socket = socket
  }

  add (callback: () => void): void {
    if (this.#callbacks.size === 0) {
      this.#socket.on('close', this.#onClose)
      pipelined.set(this.#socket, this)
    }
    this.#callbacks.add(callback)
  }

  delete (callback: () => void): void {
    this.#callbacks.delete(callback)
    if (this.#callbacks.size > 0) return
    this.#socket.off('close', this.#onClose)
    pipelined.delete(this.#socket)
  }
}
