import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import pg from 'pg'
import t from 'tap'
import type { TurnState } from '../../../lib/index.js'
import { NotConnected, cleaned, failureOf } from '../../../lib/storage/postgres/errors.js'
import { PostgresStorage } from '../../../lib/storage/postgres/postgres-storage.js'
import { buildFastify, settled } from '../../helpers/build-fastify.js'
import { poolOf, startPostgres } from '../../helpers/postgres-server.js'

const IDENTITY = { channelId: 'test', botId: 'bot', conversationId: 'c', userId: 'u' }
const CONVERSATION = 'test/bot/conversations/c'

const count = ({ conversation }: TurnState) => conversation.update<number>('n', (n = 0) => n + 1)

t.test('a server that became read-only is waited for, on new connections, and is no outage, for it can be read', async (t) => {
  const { url } = await startPostgres(t)
  const admin = poolOf(t, url, { max: 1 })
  const { app, log } = await buildFastify(t, { storage: url, flushTimeout: 3000 }, () => {})
  t.equal(await app.botasState.run(IDENTITY, count), 1)
  await admin.query('ALTER DATABASE postgres SET default_transaction_read_only = on')
  // Connections that are there already do not notice.
  await admin.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = \'client backend\'')
  const saved = app.botasState.run(IDENTITY, count)
  await settled(() => app.botasState.stats.flushRetries > 5)
  await admin.query('SET default_transaction_read_only = off; ALTER DATABASE postgres RESET default_transaction_read_only')
  t.equal(await saved, 2)
  t.strictSame(log, [])
})

t.test('a server that takes no more connections is waited for, and is no outage, for it answers others', async (t) => {
  const { url } = await startPostgres(t, { max_connections: '6', superuser_reserved_connections: '3', max_wal_senders: '0' })
  await poolOf(t, url, { max: 1 }).query('CREATE ROLE guest LOGIN; GRANT ALL ON SCHEMA public TO guest')
  const guest = url.replace('bot@', 'guest@')
  const guests = poolOf(t, guest)
  const taken = await Promise.all([guests.connect(), guests.connect()])
  const { app, log } = await buildFastify(t, { storage: guest }, () => {})
  const counted = app.botasState.run(IDENTITY, count)
  await settled(() => app.botasState.stats.loadRetries > 3)
  for (const client of taken) client.release(true)
  t.equal(await counted, 1)
  t.strictSame(log, [])
})

t.test('a connection that breaks while it is used is tried again, whatever the client calls that', async (t) => {
  const { url } = await startPostgres(t)
  const { app } = await buildFastify(t, { storage: new PostgresStorage(poolOf(t, url)) }, () => {})
  await app.botasState.run(IDENTITY, count)
  const client = pg.Client.prototype as unknown as { query(...args: unknown[]): unknown }
  const { query } = client
  t.teardown(() => { client.query = query })
  const errors = [
    Object.assign(new Error('write EPIPE'), { code: 'EPIPE', syscall: 'write' }), new Error('Query read timeout'), new Error('of a kind that nobody knows')
  ]
  for (const [index, error] of errors.entries()) {
    await app.botasState.run(IDENTITY, (state) => {
      count(state)
      client.query = function (...args) {
        client.query = query
        // What was sent is done all the same.
        return (query.apply(this, args) as Promise<unknown>).then(() => { throw error })
      }
    })
    t.strictSame(await app.botasState.storage.read([CONVERSATION]), { [CONVERSATION]: { n: index + 2 } }, error.message)
  }
  t.equal(app.botasState.stats.flushRetries, errors.length)
})

t.test('the time that a user\'s pool gives a statement is no end of a save that waits for a lock', async (t) => {
  const { url } = await startPostgres(t)
  const pool = poolOf(t, url, { query_timeout: 300 })
  const { app } = await buildFastify(t, { storage: new PostgresStorage(pool) }, () => {})
  await app.botasState.run(IDENTITY, count)
  const locking = await poolOf(t, url).connect()
  await locking.query('BEGIN; SELECT FROM botas_state FOR UPDATE')
  const saved = app.botasState.run(IDENTITY, count)
  await settled(() => app.botasState.stats.flushRetries > 1)
  await locking.query('COMMIT')
  locking.release()
  t.equal(await saved, 2)
  t.strictSame(await app.botasState.storage.read([CONVERSATION]), { [CONVERSATION]: { n: 2 } })
  await pool.query('SELECT 1')
})

t.test('a server over TLS that is cut off while the connection is made is waited for', async (t) => {
  let accepts = 0
  const proxy = createServer((socket) => {
    accepts++
    // What a client asks first is whether there is TLS.
    socket.on('error', () => {}).once('data', () => {
      if (accepts > 4) return socket.end('N')
      if (accepts > 2) return socket.end('E')
      socket.write('S')
      socket.once('data', () => socket.destroy())
    })
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.teardown(() => proxy.close())
  const { port } = proxy.address() as AddressInfo
  const { app } = await buildFastify(t, { storage: `postgres://bot@127.0.0.1:${port}/postgres?sslmode=require`, loadTimeout: 3000 }, () => {})
  await t.rejects(app.botasState.run(IDENTITY, count), { code: 'FST_BOTAS_STATE_LOAD_FAILED' })
  t.ok(accepts > 4, `${accepts} attempts`)
  t.match(app.botasState.stats.outage, { reason: /^Postgres: (?:Client network socket disconnected|There was an error establishing an SSL connection|The server does not support SSL)/ })
})

t.test('why none of the addresses of a host can be reached is told', async (t) => {
  const refuse = (message: string) => Object.assign(new Error(message), { code: 'ECONNREFUSED', syscall: 'connect' })
  const error = Object.assign(new AggregateError([refuse('connect ECONNREFUSED ::1:1'), refuse('connect ECONNREFUSED 127.0.0.1:1')]), { code: 'ECONNREFUSED' })
  t.equal(failureOf(new NotConnected(error)), 'refused')
  const untrusted = Object.assign(new Error('Hostname/IP does not match'), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' })
  t.equal(cleaned(new NotConnected(untrusted)).message, 'Postgres: the client failed (ERR_TLS_CERT_ALTNAME_INVALID)')
  t.equal(failureOf(new NotConnected(new TypeError('of an option'))), 'final')
  t.equal(failureOf(Object.assign(new Error('starting'), { code: '57P03' })), 'lost')
  t.equal(cleaned(error).message, 'Postgres: connect ECONNREFUSED ::1:1, connect ECONNREFUSED 127.0.0.1:1')
})
