import { hash } from 'node:crypto'
import { describeType } from '../../document/describe-type.js'
import { invalidOption } from '../option-checks.js'

/** How many bytes of a name Postgres keeps. */
const MAX_NAME_BYTES = 63

/** The statements about one table. */
export interface Table {
  /** As it is written in a statement. */
  readonly name: string
  readonly create: string
  /** $1, …: ids. Their positions, from 0, and rows. */
  read(rows: number): string
  /** $1: ids. A row for each, in their order, and the time of the server in milliseconds. */
  readonly readAndTellTime: string
  /** $1: an id. How many milliseconds a row is kept from now, NULL for ever. */
  readonly timeLeft: string
  /** $1: ids; $2: for how many milliseconds from now they live. As `read`. */
  readonly readAndRenew: string
  /**
   * $1 to $7, and so on for each row: id, key, text, marks, lifetime in milliseconds, the version that was read, whether there was a text.
   * Gives a row where all were as they were read, and are written; otherwise none, or it fails with a division by zero.
   */
  update(rows: number): string
  /**
   * $1: ids; then, in their order, keys, texts, marks, the versions that were read, NULL where there was no row, whether there was a text,
   * lifetimes in milliseconds. Says whether they were as they were read, and only then are all written. Fails where somebody else inserts
   * one of them at once.
   */
  readonly insertAndUpdate: string
  /**
   * As `insertAndUpdate`, for any number of rows, and in the same step removes rows of activities. Then $8: beginnings of what their ids
   * are made of; $9: the same of their keys, in this order; $10: the beginning of their texts.
   */
  readonly insertUpdateAndRemove: string
  /** $1: how many at most. Gives as many rows as were removed. */
  readonly prune: string
}

/**
 * @param name of a table, with or without a schema, `schema.table`
 * @throws FST_BOTAS_STATE_INVALID_OPTION
 */
export function tableOf (name: unknown): Table {
  if (typeof name !== 'string') throw invalidName(describeType(name))
  const parts = name.split('.')
  if (parts.length > 2 || parts.some((part) => part === '' || part.includes('\0') || Buffer.byteLength(part) > MAX_NAME_BYTES)) {
    throw invalidName('another string')
  }
  const table = parts.map(quoted).join('.')
  return { name: table, create: createStatement(table, (suffix) => quoted(indexName(parts.at(-1) as string, suffix))), ...statements(table) }
}

function invalidName (got: string): Error {
  return invalidOption('table', `the name of a table, with or without a schema, of ${MAX_NAME_BYTES} bytes at most each`, got)
}

function quoted (name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** One of its own, also for tables whose long names begin alike. */
function indexName (table: string, suffix: string): string {
  if (Buffer.byteLength(table + suffix) <= MAX_NAME_BYTES) return table + suffix
  const end = `_${hash('sha256', table).slice(0, 8)}${suffix}`
  let begin = table
  while (Buffer.byteLength(begin + end) > MAX_NAME_BYTES) begin = begin.slice(0, -1)
  return begin + end
}

/** `id` is the SHA-256 of the key, which may be longer than an index allows. For a while a removed row stays without text and key. */
function createStatement (table: string, index: (suffix: string) => string): string {
  return `CREATE TABLE IF NOT EXISTS ${table} (id bytea PRIMARY KEY, key text NOT NULL, text text, marks text NOT NULL, expires timestamptz); ` +
    `CREATE INDEX IF NOT EXISTS ${index('_expires')} ON ${table} (expires) WHERE expires IS NOT NULL; ` +
    `CREATE INDEX IF NOT EXISTS ${index('_activities')} ON ${table} (${BEGINNING}) WHERE ${IS_ACTIVITY}`
}

/** Rows of activities are looked for by how their keys begin. */
const IS_ACTIVITY = "key LIKE ' activity %'"
const BEGINNING = '(left(key, 200) COLLATE "C")'
/** Comes after every character. */
const LAST = 'chr(1114111)'

const IS_THERE = 'text IS NOT NULL AND (expires IS NULL OR expires > now())'
const TEXT = `CASE WHEN ${IS_THERE} THEN text END AS text`
const end = (lifetime: string): string => `CASE WHEN ${lifetime} > 0 THEN now() + ${lifetime} * interval '1 millisecond' END`

/** A statement for each number of rows, made when it is first needed: `IN` is cheaper for the server than an array. */
function byCount (statement: (positions: number[]) => string): (rows: number) => string {
  const statements = new Map<number, string>()
  return (rows) => {
    const made = statements.get(rows) ?? statement(Array.from({ length: rows }, (_, position) => position))
    statements.set(rows, made)
    return made
  }
}

type Statements = Omit<Table, 'name' | 'create'>

function statements (table: string): Statements {
  return {
    read: byCount((positions) => `
      SELECT (${positionOf(positions, 1)})::text AS position, xmin::text AS version, ${TEXT}, marks FROM ${table} WHERE id IN (${parameters(positions, 1)})`),

    readAndTellTime: `
      SELECT version, ${TEXT}, marks, (extract(epoch FROM clock_timestamp()) * 1000)::text AS now
      FROM unnest($1::bytea[]) WITH ORDINALITY AS asked (id, position) LEFT JOIN (SELECT *, xmin::text AS version FROM ${table} WHERE id = ANY ($1)) AS found
      USING (id) ORDER BY position`,

    timeLeft: `SELECT (extract(epoch FROM expires - clock_timestamp()) * 1000)::text AS milliseconds FROM ${table} WHERE id = $1`,

    // Locked in order, so that two of them do not wait for each other.
    readAndRenew: `
      WITH locked AS MATERIALIZED (SELECT id FROM ${table} WHERE id = ANY ($1) ORDER BY id FOR UPDATE)
      UPDATE ${table} AS stored SET expires = ${end('$2::float8')} FROM locked WHERE stored.id = locked.id AND ${IS_THERE}
      RETURNING (array_position($1::bytea[], stored.id) - 1)::text AS position, stored.xmin::text AS version, text, marks`,

    update: byCount((positions) => positions.length === 1
      ? `UPDATE ${table} SET key = $2, text = $3, marks = $4, expires = ${end('$5::float8')} WHERE id = $1 AND ${isAsRead('$6', '$7')} RETURNING 1`
      : updateSome(table, positions)),

    insertAndUpdate: insertAndUpdate(table, ''),

    // A key in which a space stands for another character is told by its id.
    insertUpdateAndRemove: insertAndUpdate(table, `,
      removed AS (
        DELETE FROM ${table} AS stored USING unnest($8::bytea[], $9::text[]) AS given (bytes, beginning), comparison
        WHERE is_as_read AND ${IS_ACTIVITY} AND ${BEGINNING} BETWEEN left(beginning, 200) AND left(beginning, 200) || ${LAST}
        AND starts_with(key, beginning) AND starts_with(text, $10)
        AND stored.id = sha256(given.bytes || convert_to(substr(key, char_length(beginning) + 1), 'UTF8'))
      )`),

    prune: `DELETE FROM ${table} WHERE id IN (SELECT id FROM ${table} WHERE expires <= now() LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING 1`
  }
}

/** @param more steps that are done in the same one */
function insertAndUpdate (table: string, more: string): string {
  return `
    WITH given AS (
      SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::float8[])
      AS given (id, key, text, marks, version, is_there, lifetime)
    ),
    locked AS MATERIALIZED (
      SELECT id, xmin::text AS version, ${IS_THERE} AS is_there FROM ${table} WHERE id = ANY ($1) ORDER BY id FOR UPDATE
    ),
    comparison AS MATERIALIZED (
      SELECT coalesce(bool_and(given.version IS NOT DISTINCT FROM locked.version AND given.is_there = coalesce(locked.is_there, false)), true) AS is_as_read
      FROM given LEFT JOIN locked USING (id)
    ),
    updated AS (
      UPDATE ${table} AS stored SET key = given.key, text = given.text, marks = given.marks, expires = ${end('given.lifetime')}
      FROM given, comparison WHERE is_as_read AND stored.id = given.id
    ),
    inserted AS (
      INSERT INTO ${table} (id, key, text, marks, expires)
      SELECT id, key, text, marks, ${end('lifetime')} FROM given, comparison WHERE is_as_read AND version IS NULL ORDER BY id
    )${more}
    SELECT is_as_read::text FROM comparison`
}

/** Where one of the rows is not as it was read, a division by zero takes back what was done with the others, in one round trip. */
function updateSome (table: string, positions: number[]): string {
  const each = (column: number, type = ''): string => `CASE id ${positions.map((position) => `WHEN $${7 * position + 1} THEN $${7 * position + column}${type}`).join(' ')} END`
  return `
    WITH updated AS (
      UPDATE ${table} SET key = ${each(2)}, text = ${each(3)}, marks = ${each(4)}, expires = ${end(each(5, '::float8'))}
      WHERE id IN (${parameters(positions, 7)}) AND ${isAsRead(each(6), each(7, '::boolean'))} RETURNING 1
    )
    SELECT 1 / (count(*) = ${positions.length})::int /* somebody else was faster: it is sent again */ FROM updated`
}

/** xmin tells versions apart, and notices also what others write: https://www.postgresql.org/docs/current/ddl-system-columns.html */
function isAsRead (version: string, isThere: string): string {
  return `xmin::text = ${version} AND (${IS_THERE}) = ${isThere}`
}

/** The first of so many parameters for each row. */
function parameters (positions: number[], each: number): string {
  return positions.map((position) => `$${each * position + 1}`).join(', ')
}

function positionOf (positions: number[], each: number): string {
  return `CASE id ${positions.map((position) => `WHEN $${each * position + 1} THEN ${position}`).join(' ')} END`
}
