import { messageOfSystem } from '../driver/system-errors.js'
import type { Failure } from '../outage-gate.js'

/** What PostgreSQL tells of an error: a SQLSTATE. */
type PostgresError = Error & { code?: string, syscall?: string }

/** Of the codes of the system, such as EPIPE, none has a digit. */
const SQLSTATE = /^(?=.*\d)[0-9A-Z]{5}$/

/** Of a statement: there is no such table; the user lacks a privilege. See https://www.postgresql.org/docs/current/errcodes-appendix.html */
export const UNDEFINED_TABLE = '42P01'
const INSUFFICIENT_PRIVILEGE = '42501'
/** Of a write: rows are not as they were read, see `table.ts`; somebody else inserted one; a strict isolation level; a deadlock. */
export const CHANGED = new Set(['22012', '23505', '40001', '40P01'])

/** A connection that ended, with the server for instance, or of which a proxy says so. */
const LOST = /^(?:57P0[1235]|08)/
/** A deadlock, a lock that was not to be had, a server short of something, connections for instance, a cancelled statement. */
const BUSY = /^(?:40|55P03|53|57014)/
/** A replica, which can be read: another connection may lead to the one that took its place. */
const READ_ONLY = '25006'

/** No connection could be made. */
export class NotConnected extends Error {
  readonly error: Error

  constructor (error: Error) {
    super('not connected')
    this.error = error
  }
}

/** The table is missing, and the user may not create it. */
class MissingTable extends Error {}

export function codeOf (error: Error): string {
  const { code, syscall } = error as PostgresError
  return typeof code === 'string' && syscall === undefined && SQLSTATE.test(code) ? code : ''
}

export function failureOf (error: Error): Failure {
  const { error: cause } = error instanceof NotConnected ? error : { error }
  const code = codeOf(cause)
  if (BUSY.test(code) || code === READ_ONLY) return 'busy'
  if (cause instanceof MissingTable || cause instanceof TypeError) return 'final'
  if (error instanceof NotConnected) return 'refused'
  // Whatever the server did not say happened to the connection.
  return code === '' || LOST.test(code) ? 'lost' : 'final'
}

/** Whether the connection is of no more use. */
export function isBroken (error: Error): boolean {
  return failureOf(error) === 'lost' || codeOf(error) === READ_ONLY
}

/** What the SQLSTATEs say that a new user meets, and what to do. */
const ADVICE: Array<[code: RegExp, advice: string]> = [
  [/^28/, 'the server does not let the user in: check user, password and pg_hba.conf'],
  [/^3D000/, 'there is no such database'],
  [/^53300/, 'the server has no connection left'],
  [/^57P03/, 'the server is starting or shutting down'],
  [/^25006/, 'the server is read-only'],
  [/^42501/, 'the user lacks a privilege: it needs SELECT, INSERT, UPDATE and DELETE on the table'],
  [/^(?:42703|42883|42804)/, 'the table has other columns than those of a PostgresStorage'],
  [/^3F000/, 'there is no such schema'],
  [/^08/, 'the connection failed, or a proxy before the server has none'],
  [/^57P01/, 'the server ended the connection']
]

/** What pg and Node say of a connection. */
const OF_A_CONNECTION = new RegExp([
  'timeout exceeded when trying to connect', 'Cannot use a pool after calling end', 'Connection terminated', 'Query read timeout', 'The server does not support SSL connections',
  'There was an error establishing an SSL connection', 'Client network socket disconnected', 'client password must be a string',
  'self-signed certificate', 'unable to get local issuer certificate', 'unable to verify the first certificate', 'certificate has expired'
].join('|'))

/** The message and the details of an error of the server may quote values, and names: its code does not. */
export function cleaned (error: Error): Error {
  if (error instanceof NotConnected) return cleaned(error.error)
  const code = codeOf(error)
  if (code === '') {
    const message = error instanceof MissingTable ? error.message : messageOfSystem(error) ?? OF_A_CONNECTION.exec(error.message)?.[0]
    const { code: kind = '' } = error as PostgresError
    return new Error(`Postgres: ${message ?? `the client failed (${/^[A-Z_]+$/.test(kind) ? kind : error.name})`}`)
  }
  const [, advice = 'the server refuses the statement'] = ADVICE.find(([codes]) => codes.test(code)) ?? []
  return new Error(`Postgres: ${advice} (SQLSTATE ${code})`)
}

/** The table is missing, and could not be created. */
export function cannotCreate (error: Error, table: string, statement: string): Error {
  if (codeOf(error) !== INSUFFICIENT_PRIVILEGE) return error
  return new MissingTable(`there is no table ${table}, and the user may not create it: run this as one who may, and grant SELECT, INSERT, UPDATE and ` +
    `DELETE on it to the user: ${statement}`)
}
