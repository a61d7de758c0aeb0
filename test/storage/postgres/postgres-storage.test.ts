import Module from 'node:module'
import { setTimeout as wait } from 'node:timers/promises'
import pg from 'pg'
import t, { type Test } from 'tap'
import type { TurnState } from '../../../lib/index.js'
import { OutageGate } from '../../../lib/storage/outage-gate.js'
import { PostgresDriver } from '../../../lib/storage/postgres/postgres-driver.js'
import { PostgresStorage } from '../../../lib/storage/postgres/postgres-storage.js'
import { tableOf } from '../../../lib/storage/postgres/table.js'
import { CONVERSATION_KEY, message } from '../../helpers/activities.js'
import { buildFastify, post, settled } from '../../helpers/build-fastify.js'
import { poolOf, startPgBouncer, startPostgres } from '../../helpers/postgres-server.js'
import { storageSuite } from '../../helpers/storage-suite.js'

const server = await startPostgres(t)
const IDENTITY = { channelId: 'test', botId: 'bot', conversationId: 'c', userId: 'u' }
const CONVERSATION = 'test/bot/conversations/c'
const USER = 'test/bot/users/u'
let tables = 0

function countBoth ({ conversation, user }: TurnState): void {
  conversation.update<number>('n', (n = 0) => n + 1)
  user.update<number>('n', (n = 0) => n + 1)
}

/** A storage on a table of its own, and a client that looks into it. */
async function open (t: Test, options: { ttl?: number, renew?: 'load' } = {}) {
  const table = `t${tables++}`
  const pool = poolOf(t, server.url)
  const storage = new PostgresStorage(pool, { table, ...options })
  t.teardown(() => storage.close())
  const sql = async (text: string, values: unknown[] = []) => (await pool.query(text.replaceAll('TABLE_', table), values)).rows
  const textOf = async (key: string) => (await sql('SELECT text FROM TABLE_ WHERE key = $1', [key]))[0]?.text
  return { pool, storage, table, sql, textOf }
}

t.test('with a URL', async (t) => {
  storageSuite(t, (_t, options) => new PostgresStorage(server.url, { ...options, table: `own_${tables++}` }))
})

t.test('with a pool of the user\'s', async (t) => {
  const pool = poolOf(t, server.url)
  storageSuite(t, (_t, options) => new PostgresStorage(pool, { ...options, table: `theirs_${tables++}` }))
})

t.test('through PgBouncer in transaction mode', async (t) => {
  const bouncer = await startPgBouncer(t, server.port)
  storageSuite(t, (_t, options) => new PostgresStorage(bouncer.url, { ...options, table: `bounced_${tables++}` }))
})

t.test('a document is a row with its very text, also of what another language wrote', async (t) => {
  const { storage, sql, textOf } = await open(t)
  await storage.write({ [CONVERSATION]: { n: 0 } })
  const text = '{"float":1.0, "long":9007199254740993,"nul":"\\u0000","twice":1,"twice":2,"n":0}'
  await sql('UPDATE TABLE_ SET text = $1', [text])
  const { app } = await buildFastify(t, { storage }, () => {})
  await app.botasState.run(IDENTITY, ({ conversation }) => conversation.set('n', 1))
  t.equal(await textOf(CONVERSATION), '{"float":1.0,"long":9007199254740993,"nul":"\\u0000","twice":2,"n":1}')
  await storage.write({ 'с byte order mark': { mark: '\uFEFF' } })
  t.equal(await textOf('с byte order mark'), '{"mark":"\uFEFF"}')
})

t.test('a text that is no document fails the turn that touches it, is left as it is, and can be cleared', async (t) => {
  const { storage, sql, textOf } = await open(t)
  await storage.write({ [CONVERSATION]: { n: 0 }, [USER]: { n: 0 } })
  await sql('UPDATE TABLE_ SET text = \'[1]\' WHERE key = $1', [CONVERSATION])
  const { app } = await buildFastify(t, { storage }, () => {})
  await app.botasState.run(IDENTITY, ({ user }) => user.set('n', 1))
  await t.rejects(app.botasState.run(IDENTITY, ({ conversation }) => conversation.set('n', 1)), { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT' })
  t.equal(await textOf(CONVERSATION), '[1]')
  await app.botasState.run(IDENTITY, ({ conversation }) => conversation.clear())
  t.strictSame(await storage.read([CONVERSATION, USER]), { [USER]: { n: 1 } })
})

t.test('keys may be longer than an index allows, and hold what a text may not', async (t) => {
  const { storage } = await open(t)
  const keys = ['x'.repeat(10_000), `${'x'.repeat(10_000)}y`, 'with \0 in it', 'with   in it']
  await storage.write(Object.fromEntries(keys.map((key, n) => [key, { n }])))
  t.strictSame(await storage.read(keys), Object.fromEntries(keys.map((key, n) => [key, { n }])))
})

t.test('the table is made when it is first needed, however many ask for it at once', async (t) => {
  for (let round = 0; round < 5; round++) {
    const table = `made_at_once_${round}`
    const storages = Array.from({ length: 20 }, () => new PostgresStorage(server.url, { table }))
    await Promise.all(storages.map((storage, n) => storage.write({ [n]: { n } })))
    t.equal(Object.keys(await (storages[0] as PostgresStorage).read(storages.map((_, n) => String(n)))).length, 20)
    await Promise.all(storages.map((storage) => storage.close()))
  }
})

t.test('a table may have any name, and be in a schema', async (t) => {
  const pool = poolOf(t, server.url)
  await pool.query('CREATE SCHEMA "Bots"')
  for (const table of ['Bots.state', 'select', 'a "quoted" name; DROP TABLE x', 'ä'.repeat(31)]) {
    const storage = new PostgresStorage(pool, { table })
    await storage.write({ key: { table } })
    t.strictSame(await storage.read(['key']), { key: { table } })
  }
  t.equal((await pool.query('SELECT count(*) FROM "Bots".state')).rows[0].count, '1')
  for (const table of ['', '.', 'a.b.c', 'x'.repeat(64), 'a\0', 1 as unknown as string]) {
    t.throws(() => new PostgresStorage(pool, { table }), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /"table"/ })
  }
})

t.test('a schema that is missing is said to be, and what nobody waits for any more is not begun', async (t) => {
  const pool = poolOf(t, server.url)
  await t.rejects(new PostgresStorage(pool, { table: 'nowhere.state' }).read(['key']), { message: 'Postgres: there is no such schema (SQLSTATE 3F000)' })
  const { storage } = await open(t)
  const patience = new AbortController()
  const update = (n: number) => storage.update('key', () => ({ n }), undefined, { signal: patience.signal, retrying () {} })
  const updates = [update(1), update(2)]
  patience.abort(new Error('nobody waits'))
  await updates[0]
  await t.rejects(updates[1] as Promise<void>, { message: 'nobody waits' })
  t.strictSame(await storage.read(['key']), { key: { n: 1 } })
})

t.test('the user needs four privileges on the table, and where it is missing and may not be made the error says how', async (t) => {
  const admin = poolOf(t, server.url)
  await admin.query('CREATE ROLE lesser LOGIN; CREATE SCHEMA strict; GRANT USAGE ON SCHEMA strict TO lesser')
  const pool = poolOf(t, server.url.replace('bot@', 'lesser@'))
  const storage = new PostgresStorage(pool, { table: 'strict.state', ttl: 60 })
  t.teardown(() => storage.close())
  const error = await storage.read(['key']).then(() => t.fail('read'), (error: Error) => error) as Error
  const [, statement] = /run this .*: (CREATE TABLE .*)$/.exec(error.message) ?? []
  t.match(error.message, /^Postgres: there is no table "strict"."state", and the user may not create it/)
  await admin.query(statement as string)
  await t.rejects(storage.read(['key']), { message: /the user lacks a privilege.*SQLSTATE 42501/ })
  await admin.query('GRANT SELECT, INSERT, UPDATE, DELETE ON strict.state TO lesser')
  await storage.write({ key: { n: 1 } })
  const { app } = await buildFastify(t, { storage, once: true, concurrency: 'queue' }, () => {})
  await app.botasState.run(IDENTITY, ({ conversation }) => conversation.set('n', 1))
  await storage.delete(['key'])
  await storage.prune()
  t.strictSame(await storage.read(['key', CONVERSATION]), { [CONVERSATION]: { n: 1 } })
})

t.test('of a turn both documents are saved or none, in one statement', async (t) => {
  const { storage, sql } = await open(t)
  const { app } = await buildFastify(t, { storage }, () => {})
  const count = () => app.botasState.run(IDENTITY, countBoth)
  await count()
  const statements = t.capture(pg.Client.prototype, 'query', pg.Client.prototype.query)
  await count()
  t.equal(statements().length, 2, 'one to load, one to save')
  for (const meanwhile of ['UPDATE TABLE_ SET text = \'{"n":7}\'', 'UPDATE TABLE_ SET text = NULL', 'DELETE FROM TABLE_']) {
    const refused = app.botasState.run(IDENTITY, async ({ conversation, user }) => {
      conversation.set('n', 100)
      user.update<number>('n', (n) => {
        if (n !== 2) throw new Error('not for what somebody else has stored')
        return 100
      })
      await sql(`${meanwhile} WHERE key = $1`, [USER])
    })
    await t.rejects(refused, { code: 'FST_BOTAS_STATE_SAVE_FAILED', message: /saved: none;/ })
    t.strictSame(await storage.read([CONVERSATION]), { [CONVERSATION]: { n: 2 } })
    await storage.write({ [USER]: { n: 2 } })
  }
})

t.test('the reply of an activity is stored together with the documents, whatever becomes of its claim meanwhile', async (t) => {
  const { storage, sql } = await open(t)
  let runs = 0
  const { url } = await buildFastify(t, { storage, once: true, flush: 'onSend' }, (app) => {
    app.post('/', async ({ state }) => {
      countBoth(state)
      return { run: ++runs }
    })
  })
  await post(url, message({ id: 'first' }))
  // As prune would, where the claim of a turn that hung has expired.
  await sql('CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM TABLE_ WHERE key LIKE \' activity %\' AND text NOT LIKE \'=%\'; RETURN NULL; END $$')
  await sql('CREATE TRIGGER lose BEFORE UPDATE ON TABLE_ FOR EACH STATEMENT EXECUTE FUNCTION lose()')
  for (let delivery = 0; delivery < 2; delivery++) t.strictSame((await post(url, message({ id: 'second' }))).body, { run: 2 })
  t.strictSame(await storage.read([CONVERSATION_KEY]), { [CONVERSATION_KEY]: { n: 2 } })
})

t.test('a place, and an activity that is handled once, cost three statements more', async (t) => {
  const { storage } = await open(t)
  for (const options of [{ concurrency: 'queue' }, { concurrency: 'queue', once: true }, { concurrency: 'replace', once: true }] as const) {
    const { app } = await buildFastify(t, { storage, ...options }, () => {})
    const turn = (activityId: string) => app.botasState.run({ ...IDENTITY, activityId }, countBoth)
    await turn(`first ${JSON.stringify(options)}`)
    const statements = t.capture(pg.Client.prototype, 'query', pg.Client.prototype.query)
    await turn(`second ${JSON.stringify(options)}`)
    t.equal(statements().length, 5)
    statements.restore()
  }
})

t.test('two turns of different processes that begin a conversation at the same moment are both stored', async (t) => {
  const { storage, table } = await open(t)
  const apps = await Promise.all([1, 2, 3].map(() => buildFastify(t, { storage: new PostgresStorage(server.url, { table }) }, () => {})))
  for (let n = 0; n < 20; n++) {
    await Promise.all(apps.map(({ app }) => app.botasState.run({ ...IDENTITY, conversationId: `c${n}`, userId: `u${n}` }, async (state) => {
      countBoth(state)
      await wait(20)
    })))
    t.strictSame(Object.values(await storage.read([`test/bot/conversations/c${n}`, `test/bot/users/u${n}`])), [{ n: 3 }, { n: 3 }])
  }
})

t.test('what somebody else writes, freezes or deletes with SQL is noticed', async (t) => {
  const { storage, sql } = await open(t)
  const { app } = await buildFastify(t, { storage }, () => {})
  await storage.write({ [CONVERSATION]: { n: 1 }, [USER]: { n: 1 } })
  const count = (meanwhile: string) => app.botasState.run(IDENTITY, async (state) => {
    countBoth(state)
    await sql(meanwhile)
  })
  await count('UPDATE TABLE_ SET text = \'{"n":10}\'')
  t.strictSame(Object.values(await storage.read([CONVERSATION, USER])), [{ n: 11 }, { n: 11 }])
  await count('VACUUM (FREEZE) TABLE_')
  t.strictSame(Object.values(await storage.read([CONVERSATION, USER])), [{ n: 12 }, { n: 12 }])
  await count(`DELETE FROM TABLE_ WHERE key = '${USER}'`)
  t.strictSame(Object.values(await storage.read([CONVERSATION, USER])), [{ n: 13 }, { n: 1 }])
  await count('TRUNCATE TABLE_')
  t.strictSame(Object.values(await storage.read([CONVERSATION, USER])), [{ n: 1 }, { n: 1 }])
})

t.test('a row that somebody has locked is waited for, and saved once', async (t) => {
  const { storage, pool, table } = await open(t)
  const { app } = await buildFastify(t, { storage }, () => {})
  await storage.write({ [CONVERSATION]: { n: 1 } })
  const client = await pool.connect()
  await client.query(`BEGIN; SELECT FROM ${table} FOR UPDATE`)
  const saved = app.botasState.run(IDENTITY, ({ conversation }) => conversation.update<number>('n', (n = 0) => n + 1))
  // Longer than one attempt: the first one goes on in the server.
  await wait(2500)
  await client.query('COMMIT')
  client.release()
  t.equal(await saved, 2)
  t.strictSame(await storage.read([CONVERSATION]), { [CONVERSATION]: { n: 2 } })
})

t.test('a save that waits for a locked row longer than its turn does fails in time', async (t) => {
  const { storage, pool, table } = await open(t)
  const { app } = await buildFastify(t, { storage, flushTimeout: 3000 }, () => {})
  await storage.write({ [CONVERSATION]: { n: 1 } })
  const client = await pool.connect()
  await client.query(`BEGIN; SELECT FROM ${table} FOR UPDATE`)
  const begun = performance.now()
  // The first attempt is given up after two seconds, the second one by the turn.
  await t.rejects(app.botasState.run(IDENTITY, ({ conversation }) => conversation.set('n', 2)), { code: 'FST_BOTAS_STATE_SAVE_FAILED' })
  t.ok(performance.now() - begun < 4500)
  await client.query('ROLLBACK')
  client.release()
  await app.botasState.run(IDENTITY, ({ conversation }) => conversation.update<number>('m', (m = 0) => m + 1))
  t.match(await storage.read([CONVERSATION]), { [CONVERSATION]: { m: 1 } })
})

t.test('a document that somebody else is storing for the first time is waited for, and merged', async (t) => {
  const { storage, pool, table } = await open(t)
  const { app } = await buildFastify(t, { storage }, () => {})
  const client = await pool.connect()
  await storage.write({ [CONVERSATION]: { n: 1 } })
  const [row] = (await client.query(`DELETE FROM ${table} RETURNING *`)).rows
  const saved = app.botasState.run(IDENTITY, async ({ conversation }) => {
    await client.query('BEGIN')
    await client.query(`INSERT INTO ${table} (id, key, text, marks) VALUES ($1, $2, $3, $4)`, [row.id, row.key, row.text, row.marks])
    return conversation.update<number>('n', (n = 0) => n + 1)
  })
  await settled(async () => (await pool.query("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'")).rows.length > 0)
  await client.query('COMMIT')
  client.release()
  await saved
  t.strictSame(await storage.read([CONVERSATION]), { [CONVERSATION]: { n: 2 } })
})

t.test('a lock that the server does not wait for is tried again', async (t) => {
  const { storage, pool, table, sql } = await open(t)
  await storage.write({ [CONVERSATION]: { n: 1 } })
  await sql('CREATE ROLE impatient LOGIN; ALTER ROLE impatient SET lock_timeout = 50; GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE_ TO impatient')
  const impatient = new PostgresStorage(server.url.replace('bot@', 'impatient@'), { table })
  const { app } = await buildFastify(t, { storage: impatient }, () => {})
  const client = await pool.connect()
  await client.query(`BEGIN; SELECT FROM ${table} FOR UPDATE`)
  const saved = app.botasState.run(IDENTITY, ({ conversation }) => conversation.update<number>('n', (n = 0) => n + 1))
  await settled(() => app.botasState.stats.flushRetries > 1)
  await client.query('COMMIT')
  client.release()
  t.equal(await saved, 2)
  t.equal(app.botasState.stats.outage, null)
})

t.test('a pool may read types in its own way, and a read may be about any number of documents', async (t) => {
  const { table, storage } = await open(t)
  const pool = poolOf(t, server.url, { binary: true, types: { getTypeParser: () => () => 'of the pool' } } as pg.PoolConfig)
  const theirs = new PostgresStorage(pool, { table })
  await theirs.write({ a: { n: 1 } })
  await theirs.update('a', (document) => ({ ...document, m: 2 }))
  const keys = Array.from({ length: 70_000 }, (_, n) => String(n))
  t.strictSame(await theirs.read(['a', ...keys]), { a: { n: 1, m: 2 } })
  const { app } = await buildFastify(t, { storage: theirs, concurrency: 'queue', once: true }, () => {})
  await app.botasState.run(IDENTITY, countBoth)
  t.strictSame(await new PostgresStorage(pool, { table, ttl: 60, renew: 'load' }).read([CONVERSATION]), { [CONVERSATION]: { n: 1 } })
  t.strictSame(await storage.read(['a']), { a: { n: 1, m: 2 } })
})

t.test('updates at once are all done where the database isolates strictly', async (t) => {
  const { storage, sql } = await open(t)
  await storage.write({ key: { n: 0 } })
  for (const level of ['repeatable read', 'serializable']) {
    await sql(`CREATE ROLE "${level}" LOGIN; ALTER ROLE "${level}" SET default_transaction_isolation = '${level}'; GRANT ALL ON TABLE_ TO "${level}"`)
    const before = (await storage.read(['key'])) as { key: { n: number } }
    const strict = await Promise.all([1, 2, 3].map(async () => new PostgresStorage(poolOf(t, server.url.replace('bot@', `${encodeURIComponent(level)}@`)), { table: (await sql('SELECT \'TABLE_\' AS name'))[0].name })))
    await Promise.all(strict.flatMap((one) => Array.from({ length: 30 }, () => one.update('key', (document) => ({ n: (document?.n as number) + 1 })))))
    t.strictSame(await storage.read(['key']), { key: { n: before.key.n + 90 } }, level)
  }
})

t.test('a turn that may be replaced does not write each time it asks whether it was', async (t) => {
  const { storage } = await open(t)
  const { url } = await buildFastify(t, { storage, concurrency: 'replace', once: true, flush: 'onSend' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text } }) => { await wait(Number(text)) })
  })
  const turn = (id: string, milliseconds: number) => post(url, message({ id, text: String(milliseconds) }))
  await turn('first', 0)
  const statements = t.capture(pg.Client.prototype, 'query', pg.Client.prototype.query)
  await turn('second', 1500)
  const sent = statements()
  const writes = sent.filter(({ args: [config] }) => /UPDATE|INSERT/.test((config as { text: string }).text))
  t.ok(sent.length > 10, `it asks, ${sent.length} times`)
  t.ok(writes.length < sent.length / 2, `${writes.length} writes`)
})

t.test('a prune that takes long, or waits for a lock, is no outage', async (t) => {
  const { storage, pool, table } = await open(t)
  const { app, log } = await buildFastify(t, { storage }, () => {})
  await app.botasState.run(IDENTITY, countBoth)
  const client = await pool.connect()
  await client.query(`BEGIN; LOCK TABLE ${table} IN EXCLUSIVE MODE`)
  const pruned = storage.prune()
  await wait(2500)
  await client.query('COMMIT')
  await pruned
  t.strictSame(log, [])

  await client.query(`BEGIN; LOCK TABLE ${table} IN EXCLUSIVE MODE`)
  const driver = new PostgresDriver(pool, tableOf(table))
  await t.rejects(new OutageGate(driver).sendInBackground((patience) => driver.prune(patience), 300), { message: 'Postgres: the server does not answer' })
  await client.query('COMMIT')

  const hasty = new PostgresStorage(pool, { table, ttl: 1 })
  await client.query(`BEGIN; LOCK TABLE ${table} IN EXCLUSIVE MODE`)
  await wait(2500)
  const waiting = async () => (await client.query('SELECT count(*)::int FROM pg_locks WHERE NOT granted')).rows[0].count
  t.equal(await waiting(), 1, 'one at a time')
  const begun = performance.now()
  const given = hasty.prune().then(() => t.fail('pruned'), (error) => error)
  await hasty.close()
  t.match(await given, { message: /^Postgres: / })
  t.ok(performance.now() - begun < 1000, 'it is given up when the storage is closed')
  await client.query('COMMIT')
  client.release()
})

t.test('what has expired is removed by prune, which uses an index; what was deleted is, too, some time later', async (t) => {
  const { storage, sql } = await open(t)
  await storage.write({ 0: { n: 1 }, fresh: { n: 1 } })
  await storage.delete(['0'])
  await sql('INSERT INTO TABLE_ SELECT sha256(n::text::bytea), n, \'{}\', \'\', now() - interval \'1 second\' FROM generate_series(1, 2500) AS n')
  await storage.prune()
  t.strictSame((await sql('SELECT key FROM TABLE_ ORDER BY key')).map(({ key }) => key), ['', 'fresh'])
  t.match(await sql('SELECT text, expires > now() + interval \'9 minutes\' AS later FROM TABLE_ WHERE key = \'\''), [{ text: null, later: true }])
  await sql('INSERT INTO TABLE_ SELECT sha256(n::text::bytea), n, \'{}\', \'\', now() + interval \'1 hour\' FROM generate_series(10000, 30000) AS n; ANALYZE TABLE_')
  const plan = await sql(`EXPLAIN ${tableOf('TABLE_').prune.replaceAll('"', '').replace('$1', '1000')}`)
  t.match(plan.map((row) => row['QUERY PLAN']).join('\n'), /Index Scan.* TABLE__expires|Index Scan.*_expires/i)
  const short = await open(t, { ttl: 1 })
  await short.storage.write({ key: { n: 1 } })
  await settled(async () => (await short.sql('SELECT FROM TABLE_')).length === 0)
  t.pass('it runs by itself')
})

t.test('with renew: \'load\' an active user is not forgotten, whatever the turn does, and one who leaves is', async (t) => {
  const { storage } = await open(t, { ttl: 2, renew: 'load' })
  const { app } = await buildFastify(t, { storage, concurrency: 'queue' }, () => {})
  await app.botasState.run(IDENTITY, countBoth)
  for (let turn = 0; turn < 3; turn++) {
    await wait(1200)
    t.equal(await app.botasState.run(IDENTITY, ({ user }) => user.get('n')), 1)
  }
  await wait(2100)
  t.equal(await app.botasState.run(IDENTITY, ({ user }) => user.get('n')), undefined)
})

t.test('without the package pg a URL says what to install', async (t) => {
  t.intercept(Module as unknown as Record<'_resolveFilename', unknown>, '_resolveFilename', {
    value: (name: string) => { throw Object.assign(new Error(`Cannot find module '${name}'`), { code: 'MODULE_NOT_FOUND' }) }
  })
  t.throws(() => new PostgresStorage(server.url), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /npm install pg/ })
})

t.test('a pool of the user\'s is not closed, one of ours is; a single client is refused', async (t) => {
  const { pool, storage } = await open(t)
  await storage.read(['key'])
  await storage.close()
  await storage.close()
  t.equal(pool.ended, false)
  t.strictSame(await storage.read(['key']), {}, 'it goes on')
  const own = new PostgresStorage(server.url)
  await own.read(['key'])
  await own.close()
  await t.rejects(own.read(['key']), { message: 'Postgres: the client was closed' })
  for (const wrong of [new pg.Client(), {}, null, 1, await pool.connect()]) {
    t.throws(() => new PostgresStorage(wrong as unknown as pg.Pool), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /"connection" must be a URL.* or a Pool of pg/ })
    if (wrong instanceof pg.Client && 'release' in wrong) (wrong as pg.PoolClient).release()
  }
})

t.test('a pool that its owner has closed is said to be closed', async (t) => {
  const pool = new pg.Pool({ connectionString: server.url })
  const { app, url } = await buildFastify(t, { storage: new PostgresStorage(pool) }, (app) => { app.post('/', async () => ({})) })
  t.equal((await post(url, message())).status, 200)
  await pool.end()
  const before = performance.now()
  t.match(await post(url, message()), { status: 500, body: { code: 'FST_BOTAS_STATE_LOAD_FAILED' } })
  t.ok(performance.now() - before < 1000, 'at once')
  t.match(app.botasState.stats.lastError, { message: /Cannot use a pool after calling end/ })
})

t.test('the URL is an option of the plugin', async (t) => {
  const { app, url } = await buildFastify(t, { storage: server.url, concurrency: 'queue', once: true }, (app) => {
    app.post('/', async ({ state: { conversation } }) => ({ n: conversation.update<number>('n', (n = 0) => n + 1) }))
  })
  for (const n of [1, 2]) t.match(await post(url, message({ id: `a${n}` })), { status: 200, body: { n } })
  t.match(await post(url, message({ id: 'a1' })), { status: 200, body: { n: 1 } })
  t.strictSame(await app.botasState.storage.read([CONVERSATION_KEY]), { [CONVERSATION_KEY]: { n: 2 } })
})
