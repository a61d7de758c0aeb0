import { createRequire } from 'node:module'
import { Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { describeType } from '../../document/describe-type.js'
import { describeUrl, invalidOption } from '../option-checks.js'
import type { Patience } from '../patience.js'
import { NotConnected, isBroken } from './errors.js'

/** A pool of pg, as far as a storage uses it. */
export interface PostgresPool {
  /** Resolves to a connection that nobody else uses until it is released. */
  connect(): Promise<PostgresClient>
  /** Told of connections that die while nobody uses them; of those that somebody is about to use. */
  on(event: 'error', listener: (error: Error) => void): unknown
  on(event: 'acquire', listener: (client: PostgresClient) => void): unknown
  /** Closes the pool. */
  end(): Promise<void>
}

/** A connection of such a pool. */
export interface PostgresClient {
  /** Runs a statement. */
  query(config: { text: string, values?: unknown[], types?: { getTypeParser(): (value: unknown) => string } }): Promise<{ rows: unknown[] }>
  /** Gives it back; with `true` it is closed. */
  release(destroy?: boolean): void
  /** Told when the connection dies. */
  on(event: 'error', listener: (error: Error) => void): unknown
}

/** A row of an answer, by the names of its columns: texts. */
export type ResultRow = Record<string, unknown>

/** How long a connection may take to be made, in milliseconds: for longer than an attempt, so that a busy server's is there for the next one. */
const CONNECT_TIMEOUT = 5000
/** How long a pool may take to end, in milliseconds. */
const END_TIMEOUT = 300

const ignore = (): void => {}

/** A pool of ours. */
export interface OwnPool {
  readonly pool: PostgresPool
  /** Says goodbye, and waits briefly. */
  close(): Promise<void>
}

/**
 * A pool of ours, which connects with the first statement.
 *
 * @throws FST_BOTAS_STATE_INVALID_OPTION where that is no URL of a Postgres, or pg is not installed
 */
export function openPool (url: string): OwnPool {
  if (!isPostgresUrl(url)) throw invalidConnection(describeUrl(url))
  const { Pool, Client } = requirePg('connection')
  const sockets = new Set<Socket>()
  const stream = (): Socket => {
    const socket = new Socket()
    sockets.add(socket)
    return socket.once('close', () => sockets.delete(socket))
  }
  const options = { connectionString: url, connectionTimeoutMillis: CONNECT_TIMEOUT, keepAlive: true, stream }
  try {
    // Reads the files that the URL names, which a pool does with every connection.
    // eslint-disable-next-line no-new
    new Client({ ...options, stream: undefined })
  } catch {
    throw invalidConnection(`${describeUrl(url)}, which pg cannot read`)
  }
  const pool = new Pool(options)
  const close = async (): Promise<void> => {
    await Promise.race([pool.end().catch(ignore), wait(END_TIMEOUT, undefined, { ref: false })])
    // A server that hangs does not say goodbye.
    for (const socket of sockets) socket.destroy()
  }
  return { pool, close }
}

/** For errors. */
export const POSTGRES_URL_RULES = 'a URL, postgres://user:password@host:5432/database, user and password percent-encoded'

/** A password that is not percent-encoded would end up in the path, the query or the hash. */
const URL_OF_POSTGRES = /^postgres(?:ql)?:\/\/(?:[^@/?#]*@)?[^@/?#]*(?:\/[^@/?#]*)?(?:\?[^@#]*)?$/

/** Whether a text names a Postgres. What its parameters say is pg's to read. */
export function isPostgresUrl (url: string): boolean {
  return URL_OF_POSTGRES.test(url) && URL.canParse(url)
}

/** @throws FST_BOTAS_STATE_INVALID_OPTION where it is no pool */
export function assertPool (pool: PostgresPool): void {
  const { connect, on, end } = (pool ?? {}) as Partial<PostgresPool>
  // A single client would be shared by statements of different turns.
  const isClient = typeof (pool as { release?: unknown } | undefined)?.release === 'function' || 'connectionParameters' in Object(pool)
  if (isClient || [connect, on, end].some((method) => typeof method !== 'function')) {
    throw invalidConnection(isClient ? 'a single client' : describeType(pool))
  }
}

interface Pg {
  Pool: new (options: object) => PostgresPool
  Client: new (options: object) => object
}

/**
 * Only needed for URLs: a caller that passes a pool has pg.
 *
 * @param option that the URL was given in
 * @throws FST_BOTAS_STATE_INVALID_OPTION where it is not installed
 */
export function requirePg (option: string): Pg {
  const require = createRequire(import.meta.url)
  try {
    require.resolve('pg')
  } catch {
    throw invalidOption(option, 'used with the package pg', 'a Postgres URL without it: npm install pg')
  }
  return require('pg')
}

function invalidConnection (got: string): Error {
  return invalidOption('connection', `${POSTGRES_URL_RULES}, or a Pool of pg`, got)
}

/**
 * Where a connection dies that is idle, or was just given out, an error is emitted, which would end the process if nobody listened:
 * https://node-postgres.com/apis/pool#error. The pool makes another one, and a statement fails by itself.
 */
export function surviveDeaths (pool: PostgresPool): void {
  if (survived.has(pool)) return
  survived.add(pool)
  pool.on('error', ignore)
  pool.on('acquire', (client) => {
    if (survived.has(client)) return
    survived.add(client)
    client.on('error', ignore)
  })
}

/** A pool may read types in a way of its own. */
const TEXTS = { getTypeParser: () => String }

const survived = new WeakSet<PostgresPool | PostgresClient>()

/** Runs a statement, unnamed, as a proxy like PgBouncer needs it. A connection on which nobody waits any more is closed. */
export async function query (pool: PostgresPool, text: string, values: unknown[], patience: Patience): Promise<ResultRow[]> {
  const client = await connected(pool, patience)
  let isReleased = false
  const release = (isLost: boolean): void => {
    if (isReleased) return
    isReleased = true
    client.release(isLost)
  }
  patience.onEnd(() => release(true))
  try {
    const { rows } = await client.query({ text, values, types: TEXTS })
    release(false)
    return rows as ResultRow[]
  } catch (error) {
    release(isBroken(error as Error))
    throw error
  }
}

/** A pool cannot be told that nobody waits: a connection that comes too late goes back. */
function connected (pool: PostgresPool, patience: Patience): Promise<PostgresClient> {
  return new Promise((resolve, reject) => {
    patience.onEnd(() => reject(patience.ended))
    pool.connect().then((client) => {
      if (patience.ended !== undefined) client.release()
      resolve(client)
    }, (error) => reject(new NotConnected(error)))
  })
}
