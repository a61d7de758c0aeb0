import { hash } from 'node:crypto'
import type { Driver, Removal, Row, RowWrite } from '../driver/driver.js'
import type { Failure } from '../outage-gate.js'
import type { Patience } from '../patience.js'
import { CHANGED, UNDEFINED_TABLE, cannotCreate, cleaned, codeOf, failureOf } from './errors.js'
import { type PostgresPool, type ResultRow, query } from './pool.js'
import type { Table } from './table.js'

/** How long a statement may take, at first, in milliseconds. */
const ATTEMPT_TIMEOUT = 2000
/** How long a row that was removed is remembered, in milliseconds: a save whose answer was lost is sent again for no longer. */
const REMOVED_LIFETIME = 600_000
/** Up to so many rows, a statement of their number is cheaper than one for any number: a turn writes four at most. */
const FEW = 4
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

  constructor (pool: PostgresPool, table: Table) {
    this.#pool = pool
    this.#table = table
  }

  status (): 'open' | 'closed' {
    return (this.#pool as { ending?: boolean }).ending === true ? 'closed' : 'open'
  }

  async ping (patience: Patience): Promise<void> {
    await query(this.#pool, 'SELECT 1', [], patience)
  }

  async read (keys: string[], lifetime: number, patience: Patience): Promise<Row[]> {
    if (lifetime === 0 && keys.length > FEW) return (await this.readAndTellTime(keys, patience)).rows
    const ids = keys.map(idOf)
    const found = lifetime === 0
      ? await this.#run(this.#table.read(keys.length), ids, patience)
      : await this.#run(this.#table.readAndRenew, [ids, lifetime], patience)
    const rows = new Map(found.map((row) => [Number(row.position), row]))
    return keys.map((_key, position) => rowOf(rows.get(position) ?? {}))
  }

  async readAndTellTime (keys: string[], patience: Patience): Promise<{ rows: Row[], now: number }> {
    const found = await this.#run(this.#table.readAndTellTime, [keys.map(idOf)], patience)
    return { rows: found.map(rowOf), now: Number(found[0]?.now) }
  }

  async timeLeft (key: string, patience: Patience): Promise<number> {
    const [row] = await this.#run(this.#table.timeLeft, [idOf(key)], patience)
    return row?.milliseconds == null ? Infinity : Math.max(Number(row.milliseconds), 0)
  }

  async write (writes: RowWrite[], patience: Patience, removal?: Removal): Promise<boolean> {
    const isUsual = removal === undefined && writes.length <= FEW && writes.every(({ row }) => row.version !== undefined)
    return isUsual ? this.#update(writes, patience) : this.#insertAndUpdate(writes, patience, removal)
  }

  /** Some rows, all of which are there already: what nearly every turn writes. */
  async #update (writes: RowWrite[], patience: Patience): Promise<boolean> {
    const values = writes.flatMap(({ key, row, text, marks, lifetime }) =>
      [idOf(key), keyIn({ key, text }), text?.toString() ?? null, marks, lifetimeOf(text, lifetime), row.version, row.text !== undefined])
    try {
      return (await this.#run(this.#table.update(writes.length), values, patience)).length > 0
    } catch (error) {
      if (CHANGED.has(codeOf(error as Error))) return false
      throw error
    }
  }

  async #insertAndUpdate (writes: RowWrite[], patience: Patience, removal: Removal | undefined): Promise<boolean> {
    const columns = [
      writes.map(({ key }) => idOf(key)),
      writes.map(keyIn),
      writes.map(({ text }) => text?.toString() ?? null),
      writes.map(({ marks }) => marks),
      writes.map(({ row }) => row.version ?? null),
      writes.map(({ row }) => row.text !== undefined),
      writes.map(({ text, lifetime }) => lifetimeOf(text, lifetime))
    ]
    try {
      const [row] = removal === undefined
        ? await this.#run(this.#table.insertAndUpdate, columns, patience)
        : await this.#run(this.#table.insertUpdateAndRemove, [...columns, ...columnsOf(removal)], patience)
      return row?.is_as_read === 'true'
    } catch (error) {
      if (CHANGED.has(codeOf(error as Error))) return false
      throw error
    }
  }

  /** Removes rows whose time has passed, and resolves to whether there may be more. */
  async prune (patience: Patience): Promise<boolean> {
    return (await this.#run(this.#table.prune, [PRUNED_AT_ONCE], patience)).length === PRUNED_AT_ONCE
  }

  /** Runs a statement, after the table was created where it is missing. */
  async #run (text: string, values: unknown[], patience: Patience): Promise<ResultRow[]> {
    try {
      return await query(this.#pool, text, values, patience)
    } catch (error) {
      if (codeOf(error as Error) !== UNDEFINED_TABLE) throw error
      await this.#create(patience)
      return query(this.#pool, text, values, patience)
    }
  }

  /** At once by several processes, CREATE TABLE IF NOT EXISTS fails: https://www.postgresql.org/message-id/CA%2BTgmoZAdYVtwBfp1FL2sMZbiHCWT4UPrzRLNnX1Nb30Ku3-gg%40mail.gmail.com */
  async #create (patience: Patience): Promise<void> {
    const { name, create } = this.#table
    try {
      await query(this.#pool, `SELECT pg_advisory_xact_lock(${CREATE_LOCK}); ${create}`, [], patience)
    } catch (error) {
      throw cannotCreate(error as Error, name, create)
    }
  }
}

/** Of a key that may be longer than an index allows. */
function idOf (key: string): Buffer {
  return hash('sha256', key, 'buffer')
}

function columnsOf ({ keys, text }: Removal): unknown[] {
  return [keys.map((key) => Buffer.from(key)), keys.map(readable), text]
}

/** What was removed is not named any more. */
function keyIn ({ key, text }: Pick<RowWrite, 'key' | 'text'>): string {
  return text === undefined ? '' : readable(key)
}

function readable (key: string): string {
  return key.replaceAll('\0', ' ')
}

function lifetimeOf (text: RowWrite['text'], lifetime: number): number {
  return text === undefined ? REMOVED_LIFETIME : lifetime
}

function rowOf ({ version, text, marks }: ResultRow): Row {
  return { version: version as string ?? undefined, text: text as string ?? undefined, marks: marks as string ?? '' }
}
