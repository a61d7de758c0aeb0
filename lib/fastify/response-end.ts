import type { Http2ServerResponse, ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import type { FastifyReply } from 'fastify'

/** Whether nothing of a reply can reach the client any more. */
export function isGone ({ raw, request }: FastifyReply): boolean {
  return raw.destroyed || request.raw.socket?.destroyed === true || http2StreamOf(raw)?.aborted === true
}

/**
 * The error with which the server destroyed a response: Fastify does, where a started one cannot be completed, after a
 * timeout for instance, and no hook tells. Over HTTP/2 an error code of the client's is an error of the stream, too, and
 * from Node 24 on a response that still waits for the connection has one when the client closes that.
 */
export function breakOf ({ raw, request }: FastifyReply): NodeJS.ErrnoException | undefined {
  const error = (raw.errored ?? http2StreamOf(raw)?.errored ?? undefined) as NodeJS.ErrnoException | undefined
  const isConnectionGone = raw.socket === null && request.raw.socket?.destroyed === true
  const codeOfClient = isConnectionGone ? 'ECONNRESET' : 'ERR_HTTP2_STREAM_ERROR'
  return error?.code === codeOfClient ? undefined : error
}

function http2StreamOf (raw: object): ServerHttp2Stream | undefined {
  return (raw as Partial<Http2ServerResponse>).stream
}

/** Who waits for a socket: one listener serves all the requests that a client has pipelined. */
const pipelined = new WeakMap<Socket, Set<() => void>>()

/** Calls back when a response is closed, whether it was sent or not. */
export function onceClosed ({ raw, request }: FastifyReply, closed: () => void): void {
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
