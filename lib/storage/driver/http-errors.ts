import type { Failure } from '../outage-gate.js'

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
/** The messages of the system name no more than an address. */
const OF_THE_SYSTEM = /^(?:connect|getaddrinfo|read|write) [A-Z_]+(?: [\w.:-]+)?/

/** The status that the server answered with; `undefined` where there was no answer. */
export function statusOf ({ statusCode, code }: HttpError): number | undefined {
  return statusCode ?? (typeof code === 'number' ? code : undefined)
}

export function failureOf (error: HttpError): Failure {
  const status = statusOf(error)
  if (status !== undefined) return PASSING.has(status) ? 'busy' : 'final'
  if (typeof error.code !== 'string') return 'final'
  return REFUSED.test(error.code) ? 'refused' : 'lost'
}

/**
 * The errors of these clients hold the request, with signatures and values, and quote it: the rest is passed on.
 *
 * @param advice what a status says, and what to do
 */
export function cleaned (server: string, error: HttpError, advice: Record<number, string>): Error {
  const status = statusOf(error)
  const code = typeof error.code === 'string' && /^\w+$/.test(error.code) ? error.code : undefined
  if (status === undefined) return new Error(`${server}: ${OF_THE_SYSTEM.exec(error.message)?.[0] ?? code ?? error.name}`)
  return new Error(`${server}: ${advice[status] ?? 'the server refuses the request'} (status ${status}${code === undefined ? '' : `, ${code}`})`)
}
