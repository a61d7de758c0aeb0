import { setTimeout as wait } from 'node:timers/promises'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { RedisStorage } from '../../../../lib/storage/redis/redis-storage.js'
import type { Storage } from '../../../../lib/index.js'
import { message } from '../../../helpers/activities.js'
import { buildFastify, post, settled } from '../../../helpers/build-fastify.js'
import { freePort } from '../../../helpers/free-port.js'
import { type RedisServer, startRedis, startSentinel } from '../../../helpers/redis-server.js'

/** A bot that counts, and that can be asked for the count. Its saves are done when it answers. */
async function startBot (t: Test, storage: Storage | string) {
  const bot = await buildFastify(t, { storage, flush: 'onSend', loadTimeout: 20_000, flushTimeout: 20_000 }, (app) => {
    app.post<{ Body: { text?: string } }>('/', async ({ body: { text }, state: { conversation } }) => ({
      count: text === 'count?' ? conversation.get('count') : conversation.update<number>('count', (n = 0) => n + 1)
    }))
  })
  return { ...bot, say: (fields?: Parameters<typeof message>[0]) => post(bot.url, message(fields)) }
}

function connect (t: Test, { port }: { port: number }): Redis {
  const client = new Redis(port)
  t.teardown(() => client.disconnect())
  return client
}

/** A server that lets its replicas begin at once. */
const startMaster = (t: Test) => startRedis(t, ['--repl-diskless-sync-delay', '0'])

/** A server that has all that its master has, and gets all that is to come. */
async function startReplica (t: Test, master: RedisServer): Promise<RedisServer> {
  const replica = await startRedis(t, ['--replicaof', '127.0.0.1', String(master.port)])
  const client = connect(t, master)
  await client.set('replicated', 'yes')
  t.equal(await client.wait(1, 10_000), 1, 'the replica follows')
  return replica
}

t.test('turns go on after the server has forgotten its scripts', async (t) => {
  const server = await startRedis(t)
  const { say, log } = await startBot(t, server.url)
  await say()
  await connect(t, server).script('FLUSH')
  t.strictSame((await say()).body, { count: 2 })
  t.strictSame(log, [])
})

t.test('a replica is read from, and a save waits until it is promoted to master', async (t) => {
  const master = await startMaster(t)
  await connect(t, master).set('botas:test/bot/conversations/conversation-1', '{"count":7}')
  const replica = await startReplica(t, master)
  const { say, log } = await startBot(t, replica.url)
  t.strictSame((await say({ text: 'count?' })).body, { count: 7 })

  let answered = false
  const saving = say().finally(() => { answered = true })
  await wait(500)
  t.notOk(answered, 'it waits')
  t.strictSame((await say({ text: 'count?', conversation: 'conversation-2' })).body, {}, 'others read meanwhile')
  await connect(t, replica).replicaof('NO', 'ONE')
  t.match(await saving, { status: 200, body: { count: 8 } })
  t.match(await say(), { status: 200, body: { count: 9 } })
  t.strictSame(log, [], 'a connection that is made anew is no outage')
})

t.test('saves of several processes that a replica refused are all done, once each, when it is promoted', async (t) => {
  const master = await startMaster(t)
  const replica = await startReplica(t, master)
  const bots = await Promise.all(Array.from({ length: 4 }, () => startBot(t, replica.url)))
  const saving = Promise.all(bots.map(({ say }) => say()))
  await settled(() => bots.every(({ app }) => app.botasState.stats.flushRetries > 1))
  await connect(t, replica).replicaof('NO', 'ONE')
  t.strictSame((await saving).map(({ status }) => status), [200, 200, 200, 200])
  t.equal(await connect(t, replica).get('botas:test/bot/conversations/conversation-1'), '{"count":4}')
})

t.test('a client with Sentinels follows the master to another server', async (t) => {
  const master = await startMaster(t)
  await startReplica(t, master)
  const sentinel = await startSentinel(t, master)
  const sentinelClient = connect(t, { port: sentinel })
  await settled(async () => (await sentinelClient.call('SENTINEL', 'replicas', 'bot') as unknown[]).length === 1, 15_000)
  const client = new Redis({
    sentinels: [{ host: '127.0.0.1', port: sentinel }],
    name: 'bot',
    maxRetriesPerRequest: 0,
    retryStrategy: () => 50,
    sentinelRetryStrategy: () => 50
  })
  t.teardown(() => client.disconnect())
  const { app, say, log } = await startBot(t, new RedisStorage(client))
  const statuses: number[] = []
  let longest = 0
  for (let turn = 0; turn < 200; turn++) {
    if (turn === 100) master.process.kill('SIGKILL')
    const begin = Date.now()
    statuses.push((await say()).status)
    longest = Math.max(longest, Date.now() - begin)
  }
  const acknowledged = statuses.filter((status) => status === 200).length
  // What the master was doing just then may have been done or not, and is not done again where nobody can tell.
  t.ok(acknowledged >= statuses.length - 1, `${statuses.length - acknowledged} failed`)
  t.equal(statuses.at(-1), 200)
  t.match(log.filter(({ msg }) => msg.includes('cannot be reached')), [{ level: 50 }], 'it is logged once')
  const { count } = (await say({ text: 'count?' })).body
  t.comment(`the longest turn took ${longest} ms; ${acknowledged} turns were answered, ${count} are stored`)
  await app.close()
  t.equal(await client.ping(), 'PONG', 'the client is its maker\'s to close')
})

t.test('Sentinels that are all down are one line in the log', async (t) => {
  const client = new Redis({ sentinels: [{ host: '127.0.0.1', port: await freePort() }, { host: '127.0.0.1', port: await freePort() }], name: 'bot' })
  t.teardown(() => client.disconnect())
  const { url, log } = await buildFastify(t, { storage: new RedisStorage(client), loadTimeout: 1500 }, (app) => {
    app.post('/', async () => ({}))
  })
  t.equal((await post(url, message())).status, 500)
  t.match(log.filter(({ msg }) => msg.includes('cannot be reached')), [{ err: { message: /^Redis: All sentinels are unreachable/ } }])
})
