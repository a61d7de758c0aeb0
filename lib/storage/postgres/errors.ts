import type { Failure } from '../outage-gate.js'

/** What PostgreSQL and Node tell of an error: a SQLSTATE, five characters, or the code of a system error. */
type PostgresError = Error & { code?: string, syscall?: string, errors?: Error[] }

const SQLSTATE = /^[0-9A-Z]{5}$/

/** Of a statement: there is no such table; two rows at once; the user lacks a privilege. See https://www.postgresql.org/docs/current/errcodes-appendix.html */
export const UNDEFINED_TABLE = '42P01'
export const UNIQUE_VIOLATION = '23505'
/** Of a text that is cast to a number, see `table.ts`. */
export const CHANGED = '22P02'
const INSUFFICIENT_PRIVILEGE = '42501'

/** A server that starts, takes no more connections, became a replica, or does not let the user in. */
const REFUSED = /^(?:57P03|53300|25006|28|3D000)/
/** A connection that ended, with the server for instance, or of which a proxy says so. */
const LOST = /^(?:57P01|57P02|57P05|08)/
/** A deadlock, a lock that was not to be had, a server short of something, a cancelled statement. */
const BUSY = /^(?:40|55P03|53|57014)/

/** Messages of pg, whose errors have no code. */
const NOT_CONNECTED = /timeout exceeded when trying to connect|Cannot use a pool after calling end/
const TERMINATED = /Connection terminated|not queryable|closed the connection/

export function codeOf (error: Error): string {
  return (error as PostgresError).code ?? ''
}

export function failureOf (error: Error): Failure {
  const code = codeOf(error)
  if (SQLSTATE.test(code)) return REFUSED.test(code) ? 'refused' : LOST.test(code) ? 'lost' : BUSY.test(code) ? 'busy' : 'final'
  const { syscall, errors: [first] = [], message } = error as PostgresError
  if (first !== undefined) return failureOf(first)
  if (syscall === 'connect' || syscall === 'getaddrinfo' || NOT_CONNECTED.test(message)) return 'refused'
  return syscall !== undefined || TERMINATED.test(message) ? 'lost' : 'final'
}

/** What the SQLSTATEs say that a new user meets, and what to do. */
const ADVICE: Array<[code: RegExp, advice: string]> = [
  [/^28/, 'the server does not let the user in: check user, password and pg_hba.conf'],
  [/^3D000/, 'there is no such database'],
  [/^53300/, 'the server has no connection left'],
  [/^57P03/, 'the server is starting or shutting down'],
  [/^25006/, 'the server is read-only'],
  [/^42501/, 'the user lacks a privilege: it needs SELECT, INSERT, UPDATE and DELETE on the table'],
  [/^42703/, 'the table has other columns than those of a PostgresStorage'],
  [/^3F000/, 'there is no such schema'],
  [/^08/, 'the connection failed, or a proxy before the server has none'],
  [/^57P01/, 'the server ended the connection']
]

/** The message and the details of an error of the server may quote values, and names: its code does not. */
export function cleaned (error: Error): Error {
  const code = codeOf(error)
  const { errors = [], message } = error as PostgresError
  if (!SQLSTATE.test(code)) return new Error(`Postgres: ${message === '' ? errors.map(({ message }) => message).join(', ') : message}`)
  const [, advice = 'the server refuses the statement'] = ADVICE.find(([codes]) => codes.test(code)) ?? []
  return new Error(`Postgres: ${advice} (SQLSTATE ${code})`)
}

/** The table is missing, and could not be created. */
export function cannotCreate (error: Error, table: string, statement: string): Error {
  if (codeOf(error) !== INSUFFICIENT_PRIVILEGE) return error
  return new Error(`there is no table ${table}, and the user may not create it: run this as one who may, and grant SELECT, INSERT, UPDATE and ` +
    `DELETE on it to the user: ${statement}`)
}
