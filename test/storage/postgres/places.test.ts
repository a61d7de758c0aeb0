import { setTimeout as wait } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { PostgresStorage } from '../../../lib/storage/postgres/postgres-storage.js'
import { CONVERSATION_KEY, message } from '../../helpers/activities.js'
import { buildFastify, post, settled } from '../../helpers/build-fastify.js'
import { losingWay } from '../../helpers/lossy-way.js'
import { poolOf, startPostgres } from '../../helpers/postgres-server.js'

const server = await startPostgres(t)
let tables = 0

async function open (t: Test) {
  const pool = poolOf(t, server.url)
  const table = `t${tables++}`
  const sql = async (text: string, values: unknown[] = []) => (await pool.query(text.replaceAll('TABLE_', table), values)).rows
  return { storage: new PostgresStorage(pool, { table }), table, sql }
}

t.test('a turn that lost its place to another one is merged, or refused by the storage itself', async (t) => {
  for (const concurrency of ['queue', 'replace'] as const) {
    const { storage, sql } = await open(t)
    const { app, url } = await buildFastify(t, { storage, concurrency, flush: 'onSend' }, (app) => {
      app.post('/', async ({ state: { conversation } }) => {
        conversation.set('n', 1)
        await sql('UPDATE TABLE_ SET text = $1 WHERE key LIKE \'%place%\'', [`somebody:${Date.now() + 60_000}:0`])
        return {}
      })
    })
    const isMerged = concurrency === 'queue'
    t.equal((await post(url, message())).status, isMerged ? 200 : 409)
    t.strictSame(await storage.read([CONVERSATION_KEY]), isMerged ? { [CONVERSATION_KEY]: { n: 1 } } : {})
    t.match(app.botasState.stats, isMerged ? { leasesLost: 1 } : { replacedTurns: 1 })
  }
})

t.test('an activity that another delivery was saved for first is not stored a second time', async (t) => {
  const { storage, sql } = await open(t)
  const { url } = await buildFastify(t, { storage, once: true }, (app) => {
    app.post('/', async ({ state: { conversation } }) => {
      conversation.update<number>('n', (n = 0) => n + 1)
      await sql('UPDATE TABLE_ SET text = \'={"status":200,"headers":{},"text":"first"}\' WHERE key LIKE \'%activity%\'')
      return {}
    })
  })
  t.match(await post(url, message({ id: 'a' })), { status: 503, body: { code: 'FST_BOTAS_STATE_BUSY' } })
  t.strictSame(await storage.read([CONVERSATION_KEY]), {})
})

t.test('an activity whose handler takes four times its lease is handled once, while other deliveries and turns wait at another server', async (t) => {
  const { storage, table } = await open(t)
  const options = { once: true, concurrency: { strategy: 'queue', lease: 600 } } as const
  let runs = 0
  const bots = await Promise.all([storage, new PostgresStorage(server.url, { table })].map((storage) => buildFastify(t, { storage, ...options }, (app) => {
    app.post<{ Body: { id: string } }>('/', async ({ body: { id }, state: { conversation } }) => {
      runs++
      conversation.update<string[]>('ids', (ids = []) => [...ids, id])
      if (id === 'slow') await wait(2400)
      return { id }
    })
  })))
  const [one, other] = bots as [typeof bots[0] & {}, typeof bots[0] & {}]
  const slow = post(one.url, message({ id: 'slow' }))
  await settled(() => runs === 1)
  const replies = await Promise.all([slow, post(other.url, message({ id: 'slow' })), post(other.url, message({ id: 'next' }))])
  t.strictSame(replies.map(({ body }) => body), [{ id: 'slow' }, { id: 'slow' }, { id: 'next' }])
  t.strictSame(await storage.read([CONVERSATION_KEY]), { [CONVERSATION_KEY]: { ids: ['slow', 'next'] } })
  t.match(bots.map(({ app }) => app.botasState.stats.leasesLost), [0, 0])
})

t.test('with reject a turn that meets one of another server is a 409', async (t) => {
  const { storage, table } = await open(t)
  let runs = 0
  const bots = await Promise.all([storage, new PostgresStorage(server.url, { table })].map((storage) => buildFastify(t, { storage, concurrency: 'reject' }, (app) => {
    app.post('/', async () => {
      runs++
      await wait(300)
      return {}
    })
  })))
  const first = post((bots[0] as typeof bots[0] & {}).url, message())
  await settled(() => runs === 1)
  t.match(await post((bots[1] as typeof bots[0] & {}).url, message()), { status: 409, body: { code: 'FST_BOTAS_STATE_BUSY' } })
  t.equal((await first).status, 200)
})

t.test('the end of a turn whose answer was lost is known to be done, with its place and its activity', async (t) => {
  const { storage, table } = await open(t)
  const way = await losingWay(t, server.port)
  const lossy = new PostgresStorage(`postgres://bot@127.0.0.1:${way.port}/postgres`, { table })
  const { app, url } = await buildFastify(t, { storage: lossy, once: true, concurrency: 'queue' }, (app) => {
    app.post<{ Body: { loses: boolean, changes: boolean } }>('/', async ({ body, state }) => {
      if (body.changes) state.conversation.update<number>('n', (n = 0) => n + 1)
      // The first answer to the save is that of the rows that it is compared with.
      if (body.loses) setTimeout(() => way.lose('answers'), 0)
      return { done: true }
    })
  })
  for (let n = 0; n < 20; n++) t.match(await post(url, message({ id: `a${n}`, loses: n % 2 === 1, changes: n % 4 < 2 })), { status: 200, body: { done: true } })
  t.strictSame(await storage.read([CONVERSATION_KEY]), { [CONVERSATION_KEY]: { n: 10 } })
  t.match(app.botasState.stats, { leasesLost: 0, flushFailures: 0 })
})
