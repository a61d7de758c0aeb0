import { describeType } from '../../document/describe-type.js'
import { invalidOption } from '../option-checks.js'

/** How many bytes of a name Postgres keeps. */
const MAX_NAME_BYTES = 63

/** The statements about one table. */
export interface Table {
  /** As it is written in a statement. */
  readonly name: string
  readonly create: string
  readonly read: string
  readonly readAndRenew: string
  readonly write: string
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
  const index = quoted(`${cut(parts.at(-1) as string, MAX_NAME_BYTES - '_expires'.length)}_expires`)
  return { name: table, create: createStatement(table, index), ...statements(table) }
}

function invalidName (got: string): Error {
  return invalidOption('table', `the name of a table, with or without a schema, of ${MAX_NAME_BYTES} bytes at most each`, got)
}

function quoted (name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

function cut (name: string, bytes: number): string {
  let text = name
  while (Buffer.byteLength(text) > bytes) text = text.slice(0, -1)
  return text
}

/** `id` is the SHA-256 of the key, which may be longer than an index allows. The text of a removed row is NULL for a while. */
function createStatement (table: string, index: string): string {
  return `CREATE TABLE IF NOT EXISTS ${table} (id bytea PRIMARY KEY, key text NOT NULL, text text, marks text NOT NULL, expires timestamptz); ` +
    `CREATE INDEX IF NOT EXISTS ${index} ON ${table} (expires) WHERE expires IS NOT NULL`
}

const IS_THERE = 'text IS NOT NULL AND (expires IS NULL OR expires > now())'
const IN = (lifetime: string): string => `CASE WHEN ${lifetime} > 0 THEN now() + ${lifetime} * interval '1 millisecond' END`

function statements (table: string): Pick<Table, 'read' | 'readAndRenew' | 'write' | 'prune'> {
  const columns = (source: string, isThere: string): string => `
    SELECT ${source}.version, CASE WHEN ${isThere} THEN text END AS text, marks, extract(epoch FROM clock_timestamp()) * 1000 AS now
    FROM unnest($1::bytea[]) WITH ORDINALITY AS asked (id, position) LEFT JOIN`
  return {
    // $1: ids. A row for each, in their order.
    read: `${columns('found', IS_THERE)} (SELECT *, xmin::text AS version FROM ${table} WHERE id = ANY ($1)) AS found USING (id) ORDER BY position`,

    // $1: ids; $2: what is found lives for so many milliseconds from now. Locked in order, so that two of them do not wait for each other.
    readAndRenew: `
      WITH locked AS MATERIALIZED (SELECT id FROM ${table} WHERE id = ANY ($1) ORDER BY id FOR UPDATE),
      renewed AS (
        UPDATE ${table} AS stored SET expires = ${IN('$2::float8')} FROM locked WHERE stored.id = locked.id AND ${IS_THERE}
        RETURNING stored.id, stored.text, stored.marks, stored.xmin::text AS version
      )
      ${columns('renewed', 'true')} renewed USING (id) ORDER BY position`,

    // $1: ids; then, in their order, keys, texts, marks, the versions that were read (NULL where there was no row), whether there was a text,
    // and lifetimes in milliseconds. Where all rows are as they were read, all are written, otherwise none: says which. xmin tells versions
    // apart, and notices also what others write. Where two insert a row at once, one statement fails.
    write: `
      WITH given AS (
        SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::float8[])
        AS given (id, key, text, marks, version, is_there, lifetime)
      ),
      locked AS MATERIALIZED (
        SELECT id, xmin::text AS version, ${IS_THERE} AS is_there FROM ${table} WHERE id = ANY ($1) ORDER BY id FOR UPDATE
      ),
      comparison AS MATERIALIZED (
        SELECT bool_and(given.version IS NOT DISTINCT FROM locked.version AND given.is_there = coalesce(locked.is_there, false)) AS is_as_read
        FROM given LEFT JOIN locked USING (id)
      ),
      updated AS (
        UPDATE ${table} AS stored SET text = given.text, marks = given.marks, expires = ${IN('given.lifetime')}
        FROM given, comparison WHERE is_as_read AND stored.id = given.id
      ),
      inserted AS (
        INSERT INTO ${table} (id, key, text, marks, expires)
        SELECT id, key, text, marks, ${IN('lifetime')} FROM given, comparison WHERE is_as_read AND version IS NULL ORDER BY id
      )
      SELECT is_as_read FROM comparison`,

    // $1: how many at most. Gives as many rows as were removed.
    prune: `
      DELETE FROM ${table} WHERE id IN (SELECT id FROM ${table} WHERE expires <= now() LIMIT $1 FOR UPDATE SKIP LOCKED) AND expires <= now() RETURNING 1`
  }
}
