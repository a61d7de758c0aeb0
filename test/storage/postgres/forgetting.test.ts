import pg from 'pg'
import t, { type Test } from 'tap'
import { PostgresStorage } from '../../../lib/storage/postgres/postgres-storage.js'
import { tableOf } from '../../../lib/storage/postgres/table.js'
import { buildFastify } from '../../helpers/build-fastify.js'
import { forgettingSuite } from '../../helpers/forgetting-suite.js'
import { poolOf } from '../../helpers/postgres-server.js'
import { freshTable } from '../../helpers/shared-servers.js'

const [CONVERSATION, USER] = ['test/bot/conversations/c', 'test/bot/users/u']
const IDENTITY = { channelId: 'test', botId: 'bot', conversationId: 'c', userId: 'u' }

async function open (t: Test) {
  const { url, table } = await freshTable()
  const pool: pg.Pool = poolOf(t, url)
  const rows = async () => (await pool.query(`SELECT * FROM ${table}`)).rows
  return { pool, table, rows, storage: new PostgresStorage(pool, { table }), everything: async () => (await rows()).map((row) => JSON.stringify(row)) }
}

forgettingSuite(t, open)

t.test('a row that was removed has no key until it is brought back', async (t) => {
  const { storage, rows } = await open(t)
  const keys = async () => (await rows()).map(({ key }) => key).sort()
  const { app } = await buildFastify(t, { storage }, () => {})
  const turn = (work: Parameters<typeof app.botasState.run>[1]) => app.botasState.run(IDENTITY, work)
  const many = Array.from({ length: 5 }, (_, index) => `key ${index}`)
  const steps: Array<[what: string, step: () => Promise<unknown>, keys: string[]]> = [
    ['both are stored', () => turn(({ conversation, user }) => { conversation.set('n', 1); user.set('n', 1) }), [CONVERSATION, USER]],
    ['one is removed', () => turn((state) => state.deleteUserState()), ['', CONVERSATION]],
    ['it is brought back', () => turn(({ user }) => user.set('n', 1)), [CONVERSATION, USER]],
    ['both are removed', () => turn((state) => { state.deleteUserState(); state.deleteConversationState() }), ['', '']],
    ['both are brought back', () => turn(({ conversation, user }) => { conversation.set('n', 1); user.set('n', 1) }), [CONVERSATION, USER]],
    ['many are stored', () => storage.write(Object.fromEntries(many.map((key) => [key, {}]))), [...many, CONVERSATION, USER]],
    ['many are removed', () => storage.delete(many), ['', '', '', '', '', CONVERSATION, USER]],
    ['many are brought back', () => storage.write(Object.fromEntries(many.map((key) => [key, {}]))), [...many, CONVERSATION, USER]]
  ]
  for (const [what, step, expected] of steps) {
    await step()
    t.strictSame(await keys(), expected, what)
  }
})

t.test('what is forgotten is found by an index, however much is stored', async (t) => {
  const { storage, table, pool } = await open(t)
  const { app } = await buildFastify(t, { storage, once: true }, () => {})
  await app.botasState.run({ ...IDENTITY, activityId: 'a' }, ({ conversation }) => conversation.set('n', 1))
  await pool.query(`INSERT INTO ${table} SELECT sha256(n::text::bytea), ' activity test/bot/conversations/' || n || ' a', '=', '', NULL FROM generate_series(1, 20000) AS n; ANALYZE ${table}`)
  const parameters = ["'{}'::bytea[]", "'{}'::text[]", "'{}'::text[]", "'{}'::text[]", "'{}'::text[]", "'{}'::boolean[]", "'{}'::float8[]",
    "ARRAY['\\x00'::bytea]", "ARRAY[' activity test/bot/conversations/c ']", "'='"]
  const statement = tableOf(table).insertUpdateAndRemove.replace(/\$(\d+)/g, (_all: string, n: string) => parameters[Number(n) - 1] as string)
  const plan = (await pool.query(`EXPLAIN ${statement}`)).rows.map((row) => row['QUERY PLAN']).join('\n')
  t.match(plan, `${table}_activities`)
})
