import { createHash } from 'node:crypto'
import type { Driver, Row, RowWrite } from '../driver/driver.js'
import type { Failure } from '../outage-gate.js'
import { UNDEFINED_TABLE, UNIQUE_VIOLATION, cannotCreate, cleaned, codeOf, failureOf } from './errors.js'
import { type PostgresPool, type ResultRow, query } from './pool.js'
import type { Table } from './table.js'

/** How long a statement may take, at first, in milliseconds. */
const ATTEMPT_TIMEOUT = 2000
/** How long a row that was removed is remembered, in milliseconds: a save whose answer was lost is sent again for no longer. */
const REMOVED_LIFETIME = 600_000
/** How many rows one statement prunes. */
const PRUNED_AT_ONCE = 1000

/** Names the lock under which the table is created. */
const CREATE_LOCK = 0x626f7461

/** Rows of a table. */
export class PostgresDriver implements Driver {
  readonly server = 'Postgres'
  readonly maxSilence = ATTEMPT_TIMEOUT
  readonly attemptTimeout = ATTEMPT_TIMEOUT
  readonly isAtomic = true
  readonly failureOf: (error: Error) => Failure = failureOf
  readonly cleaned = cleaned
  readonly #pool: PostgresPool
  readonly #table: Table
  /** the time of the server, in milliseconds */
  #now = 0

  constructor (pool: PostgresPool, table: Table) {
    this.#pool = pool
    this.#table = table
  }

  status (): 'open' | 'closed' {
    return (this.#pool as { ended?: boolean }).ended === true ? 'closed' : 'open'
  }

  now (): number {
    return this.#now
  }

  async ping (signal: AbortSignal): Promise<void> {
    await query(this.#pool, 'SELECT 1', [], signal)
  }

  async read (keys: string[], lifetime: number, signal: AbortSignal): Promise<Row[]> {
    const ids = keys.map(idOf)
    const rows = lifetime === 0 ? await this.#run(this.#table.read, [ids], signal) : await this.#run(this.#table.readAndRenew, [ids, lifetime], signal)
    this.#now = Number(rows[0]?.now)
    return rows.map(rowOf)
  }

  async write (writes: RowWrite[], signal: AbortSignal): Promise<boolean> {
    const columns = [
      writes.map(({ key }) => idOf(key)),
      writes.map(({ key }) => key.replaceAll('\0', ' ')),
      writes.map(({ text }) => text?.toString() ?? null),
      writes.map(({ marks }) => marks),
      writes.map(({ row }) => row.version ?? null),
      writes.map(({ row }) => row.text !== undefined),
      writes.map(({ text, lifetime }) => text === undefined ? REMOVED_LIFETIME : lifetime)
    ]
    try {
      const [row] = await this.#run(this.#table.write, columns, signal)
      return row?.is_as_read === true
    } catch (error) {
      if (codeOf(error as Error) === UNIQUE_VIOLATION) return false
      throw error
    }
  }

  /** Removes rows whose time has passed, and resolves to whether there may be more. */
  async prune (signal: AbortSignal): Promise<boolean> {
    return (await this.#run(this.#table.prune, [PRUNED_AT_ONCE], signal)).length === PRUNED_AT_ONCE
  }

  /** Runs a statement, after the table was created where it is missing. */
  async #run (text: string, values: unknown[], signal: AbortSignal): Promise<ResultRow[]> {
    try {
      return await query(this.#pool, text, values, signal)
    } catch (error) {
      if (codeOf(error as Error) !== UNDEFINED_TABLE) throw error
      await this.#create(signal)
      return query(this.#pool, text, values, signal)
    }
  }

  /** At once by several processes, CREATE TABLE IF NOT EXISTS fails: https://www.postgresql.org/message-id/CA%2BTgmoZAdYVtwBfp1FL2sMZbiHCWT4UPrzRLNnX1Nb30Ku3-gg%40mail.gmail.com */
  async #create (signal: AbortSignal): Promise<void> {
    const { name, create } = this.#table
    try {
      await query(this.#pool, `SELECT pg_advisory_xact_lock(${CREATE_LOCK}); ${create}`, [], signal)
    } catch (error) {
      throw cannotCreate(error as Error, name, create)
    }
  }
}

/** Of a key that may be longer than an index allows. */
function idOf (key: string): Buffer {
  return createHash('sha256').update(key).digest()
}

function rowOf ({ version, text, marks }: ResultRow): Row {
  return { version: version as string ?? undefined, text: text as string ?? undefined, marks: marks as string ?? '' }
}
