import { inspect } from 'node:util'
import pg from 'pg'
import t, { type Test } from 'tap'
import { PostgresStorage } from '../../../lib/storage/postgres/postgres-storage.js'
import { message } from '../../helpers/activities.js'
import { buildFastify, post, settled } from '../../helpers/build-fastify.js'
import { poolOf, startPostgres } from '../../helpers/postgres-server.js'

/** With characters that a URL has to encode. */
const PASSWORD = 'hunter2@/:?#%'

const server = await startPostgres(t)
const admin = poolOf(t, server.url)
await admin.query(`CREATE ROLE careful LOGIN PASSWORD '${PASSWORD}'; GRANT CREATE ON SCHEMA public TO careful`)
server.authenticate('host all bot 127.0.0.1/32 trust\nhost all careful 127.0.0.1/32 scram-sha-256\n')

const urlOf = (password: string, database = 'postgres') => `postgres://careful:${encodeURIComponent(password)}@127.0.0.1:${server.port}/${database}`

/** Posts a message to a bot, and gives all that anybody is told. */
async function converse (t: Test, storage: string | PostgresStorage) {
  const errors: Error[] = []
  const { app, url, log } = await buildFastify(t, { storage, flush: 'onSend', loadTimeout: 500 }, (app) => {
    app.addHook('onError', async (_request, _reply, error) => { errors.push(error) })
    app.post('/', async ({ state: { conversation } }) => {
      conversation.set('secret', 'state-value')
      return {}
    })
  })
  const reply = await post(url, message())
  const told = inspect([errors, log, reply, app.botasState.stats, app.botasState.storage], { depth: Infinity, showHidden: true })
  t.notMatch(told, /hunter|state-value/, 'neither the password nor a value is told')
  return { app, url, reply, errors, log }
}

t.test('a user with a password is let in', async (t) => {
  await settled(async () => (await converse(t, urlOf(PASSWORD))).reply.status === 200)
  t.match(await converse(t, urlOf(PASSWORD)), { reply: { status: 200 }, errors: [] })
})

t.test('wrong credentials, and a database that is not there, are an outage that says so, and ends when they are right', async (t) => {
  const wrong = await converse(t, urlOf('hunter3'))
  t.match(wrong, { reply: { status: 500 }, errors: [{ code: 'FST_BOTAS_STATE_LOAD_FAILED' }] })
  t.match(wrong.app.botasState.stats.outage, { reason: /^Postgres: the server does not let the user in: check user, password and pg_hba.conf \(SQLSTATE 28P01\)$/ })
  t.equal(wrong.log.filter(({ msg }) => msg.includes('cannot be reached')).length, 1)
  await admin.query('ALTER ROLE careful PASSWORD \'hunter3\'')
  await settled(async () => (await post(wrong.url, message())).status === 200)
  t.equal(wrong.app.botasState.stats.outage, null)
  await admin.query(`ALTER ROLE careful PASSWORD '${PASSWORD}'`)
  const elsewhere = await converse(t, urlOf(PASSWORD, 'nowhere'))
  t.match(elsewhere.app.botasState.stats.outage, { reason: /^Postgres: there is no such database \(SQLSTATE 3D000\)$/ })
})

t.test('what the server says of a value is not passed on', async (t) => {
  await admin.query('CREATE TABLE checked (id bytea PRIMARY KEY, key text NOT NULL, text text CHECK (text NOT LIKE \'%state-value%\'), marks text NOT NULL, expires timestamptz)')
  const storage = new PostgresStorage(admin, { table: 'checked' })
  const error = await storage.write({ key: { secret: 'state-value' } }).then(() => t.fail('written'), (error) => error)
  t.equal(error.message, 'Postgres: the server refuses the statement (SQLSTATE 23514)')
  t.notMatch(inspect(error, { depth: Infinity, showHidden: true }), /state-value/)
  const other = new PostgresStorage(admin, { table: 'other' })
  await admin.query('CREATE TABLE other (id int)')
  await t.rejects(other.read(['key']), { message: 'Postgres: the table has other columns than those of a PostgresStorage (SQLSTATE 42703)' })
})

t.test('a server without TLS is not talked to in the clear where that is asked for', async (t) => {
  const { reply, app } = await converse(t, `${urlOf(PASSWORD)}?sslmode=verify-full`)
  t.equal(reply.status, 500)
  t.match(app.botasState.stats.lastError, { message: /Postgres: The server does not support SSL connections/ })
})

t.test('what a function throws that gives a pool its password is not passed on', async (t) => {
  const pool = new pg.Pool({ host: '127.0.0.1', port: server.port, user: 'careful', database: 'postgres', password: async () => { throw new Error(PASSWORD) } })
  t.teardown(() => pool.end())
  const { app } = await converse(t, new PostgresStorage(pool))
  t.match(app.botasState.stats.outage, { reason: 'Postgres: the client failed (Error)' })
})
