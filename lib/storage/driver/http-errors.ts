import type { Failure } from '../outage-gate.js'
import { messageOfSystem } from './system-errors.js'

/** What the clients of Azure tell of an error. */
export interface HttpError extends Error {
  /** of the service, or of the system */
  readonly code?: string | number
  readonly statusCode?: number
}

/** The client could not connect: https://nodejs.org/docs/latest/api/errors.html#common-system-errors */
const REFUSED = /^(?:ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH)$/
/** The server, or what stands before it, is overloaded, moves, or has failed for once. */
const PASSING = new Set([408, 410, 429, 449, 500, 502, 503, 504])

/** The status that the server answered with; `undefined` where there was no answer. */
export function statusOf ({ statusCode, code }: HttpError): number | undefined {
  return statusCode ?? (typeof code === 'number' ? code : undefined)
}

export function failureOf (error: HttpError): Failure {
  const status = statusOf(error)
  if (status !== undefined) return PASSING.has(status) ? 'busy' : 'final'
  if (error.name === 'AbortError' || error.name === 'TimeoutError') return 'lost'
  if (typeof error.code !== 'string') return 'final'
  return REFUSED.test(error.code) ? 'refused' : 'lost'
}

/** How long to wait, in milliseconds, NaN where that is not said: https://www.rfc-editor.org/rfc/rfc9110#name-retry-after */
export function retryAfter (value: string | undefined): number {
  const seconds = Number(value)
  return Number.isNaN(seconds) ? Date.parse(String(value)) - Date.now() : seconds * 1000
}

/**
 * The errors of these clients hold the request, with signatures and values, and quote it: the rest is passed on.
 *
 * @param advice what a status says, and what to do
 */
export function cleaned (server: string, error: HttpError, advice: Record<number, string>): Error {
  const status = statusOf(error)
  const code = typeof error.code === 'string' && /^\w+$/.test(error.code) ? error.code : undefined
  if (status === undefined) return new Error(`${server}: ${messageOfSystem(error) ?? code ?? error.name}`)
  return new Error(`${server}: ${advice[status] ?? 'the server refuses the request'} (status ${status}${code === undefined ? '' : `, ${code}`})`)
}
