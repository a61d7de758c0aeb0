import type { FastifyReply } from 'fastify'
import type { KeptReply } from '../turn/kept.js'
import { isResponse } from './payload.js'

/** Of one message, or one connection, only: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1 */
const NOT_KEPT = new Set([
  'connection', 'content-length', 'date', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade'
])
/** Say what a payload is like that is not there. */
const OF_PAYLOAD = new Set([
  'accept-ranges', 'content-digest', 'content-disposition', 'content-encoding', 'content-language', 'content-location', 'content-md5',
  'content-range', 'content-type', 'digest', 'etag', 'last-modified', 'repr-digest'
])

/**
 * What is kept of a reply, after all hooks.
 *
 * @param payload as it leaves
 * @param body the same, or, of a `Response`, what was read of it; of what is streamed nothing is kept
 * @param limit of the body, in bytes
 */
export function keptReply (reply: FastifyReply, payload: unknown, body: unknown, limit: number): KeptReply {
  const { status, headers } = headOf(reply, payload)
  if (typeof body === 'string' && Buffer.byteLength(body) <= limit) return { status, headers, text: body }
  if (body instanceof Uint8Array && body.byteLength <= limit) return { status, headers, base64: Buffer.from(body).toString('base64') }
  if (body == null || (isResponse(body) && body.body === null)) return { status, headers }
  return { status, headers: Object.fromEntries(Object.entries(headers).filter(([name]) => !OF_PAYLOAD.has(name))) }
}

/** A `Response` brings its own status, and headers that come before those of the reply, but for cookies, which are added. */
function headOf (reply: FastifyReply, payload: unknown): Pick<KeptReply, 'status' | 'headers'> {
  const headers: Record<string, unknown> = { ...reply.getHeaders() }
  for (const [name, value] of isResponse(payload) ? payload.headers : []) {
    headers[name] = name === 'set-cookie' ? [headers[name] ?? [], value].flat() : value
  }
  for (const name of NOT_KEPT) delete headers[name]
  return { status: isResponse(payload) ? payload.status : reply.statusCode, headers }
}

/**
 * Makes a reply what was kept, whatever the hooks have made of it now: they have been there the first time.
 *
 * @returns its payload
 */
export function replay (reply: FastifyReply, { status, headers, text, base64 }: KeptReply): string | Buffer | undefined {
  // "set-cookie" is added to what is there.
  for (const name of Object.keys(reply.getHeaders())) if (OF_PAYLOAD.has(name) || name in headers) reply.removeHeader(name)
  reply.raw.statusCode = status
  reply.headers({ ...headers, 'botas-state': 'replayed' })
  return base64 === undefined ? text : Buffer.from(base64, 'base64')
}
