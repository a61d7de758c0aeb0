import { FST_BOTAS_STATE_CORRUPT_DOCUMENT, FST_BOTAS_STATE_REPLACED } from '../errors.js'

/** A reply as it is kept for the next deliveries of its activity. */
export interface KeptReply {
  readonly status: number
  readonly headers: Record<string, unknown>
  /** the payload; both are left out where it is empty, streamed or too long */
  readonly text?: string
  readonly base64?: string
}

/** What `run` resolved to, as JSON; left out where that cannot hold it, or where it is too long. */
export interface KeptResult {
  readonly result?: string
}

/** What the next deliveries of an activity get. */
export type Kept = KeptReply | KeptResult

const { code, message } = new FST_BOTAS_STATE_REPLACED()
/** Of a turn that was replaced and has no other answer: the error, as Fastify sends it. */
export const REPLACED_REPLY: KeptReply = {
  status: 409,
  headers: { 'content-type': 'application/json; charset=utf-8' },
  text: JSON.stringify({ statusCode: 409, code, error: 'Conflict', message })
}

/**
 * What was stored when an activity was handled.
 *
 * @param keys of the documents of its turn
 * @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT
 */
export function keptIn (text: string, keys: string[]): Kept {
  try {
    return JSON.parse(text)
  } catch {
    // The error of JSON.parse quotes the reply.
    throw new FST_BOTAS_STATE_CORRUPT_DOCUMENT(`kept reply, ${keys.join(', ')}`, 'not JSON')
  }
}

/** @param limit in bytes */
export function keptResult (result: unknown, limit: number): KeptResult {
  try {
    const text = JSON.stringify(result)
    return text === undefined || Buffer.byteLength(text) > limit ? {} : { result: text }
  } catch {
    return {}
  }
}

/** What `run` gives where its activity was handled before; `undefined` where that was by a request. */
export function resultOf (kept: Kept): unknown {
  return 'result' in kept && kept.result !== undefined ? JSON.parse(kept.result) : undefined
}

/** What a request is answered with where its activity was handled before; empty where that was by `run`. */
export function replyOf (kept: Kept): KeptReply {
  return 'status' in kept ? kept : { status: 200, headers: {} }
}
