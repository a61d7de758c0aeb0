import { setTimeout as wait } from 'node:timers/promises'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import type { BotasStateOptions, StateDocument } from '../../../../lib/index.js'
import { RedisStorage } from '../../../../lib/storage/redis/redis-storage.js'
import { CONVERSATION_KEY, message } from '../../../helpers/activities.js'
import { type TestServer, buildFastify, post, settled } from '../../../helpers/build-fastify.js'
import { startProcess } from '../../../helpers/node-process.js'
import { restartableRedis } from '../../../helpers/redis-server.js'

/** A bot that counts, on Redis, with the health route of the README. */
async function startBot (t: Test, options: BotasStateOptions): Promise<TestServer> {
  return buildFastify(t, options, (app) => {
    app.get('/health', async (_request, reply) => {
      const { outage, openTurns, pendingFlushes, flushFailures } = app.botasState.stats
      return reply.code(outage === null ? 200 : 503).send({ redis: outage === null, openTurns, pendingFlushes, flushFailures })
    })
    app.post<{ Body: { id: string } }>('/', async ({ id, state: { conversation }, body }) => {
      conversation.update<number>('count', (count) => (count ?? 0) + 1)
      conversation.set(body.id, true)
      return { reqId: id }
    })
  })
}

t.test('while Redis is down a turn fails in time, everything else goes on, and it recovers by itself', async (t) => {
  const redis = await restartableRedis(t)
  const { app, url, log } = await startBot(t, { storage: redis.url, loadTimeout: 300 })
  const before = performance.now()
  const replies = await Promise.all(Array.from({ length: 50 }, () => post(url, message())))
  t.ok(performance.now() - before < 2000, 'nobody waits longer than loadTimeout')
  for (const { status, body } of replies) t.match({ status, body }, { status: 500, body: { code: 'FST_BOTAS_STATE_LOAD_FAILED' } })
  const health = await fetch(`${url}/health`)
  t.match({ status: health.status, body: await health.json() }, { status: 503, body: { redis: false, openTurns: 0 } })
  t.equal(log.filter((line) => JSON.stringify(line).includes('ECONNREFUSED')).length, 1, 'the cause is logged once')
  t.match(log.find(({ msg }) => msg.includes('cannot be reached')), { level: 50, err: { message: /^Redis: connect ECONNREFUSED/ } })
  t.match(app.botasState.stats, { outage: { reason: /ECONNREFUSED/ }, loadFailures: 50, lastError: { code: 'FST_BOTAS_STATE_LOAD_FAILED' } })

  await redis.start()
  const back = performance.now()
  await settled(async () => (await post(url, message({ id: 'first' }))).status === 200)
  t.ok(performance.now() - back < 1000, 'it works again within a second')
  t.match(app.botasState.stats, { outage: null })
  t.equal((await fetch(`${url}/health`)).status, 200)
  await redis.stop()
  await settled(() => app.botasState.stats.outage !== null)
  t.equal(log.filter(({ msg }) => msg.includes('cannot be reached')).length, 2, 'another outage is logged once more')
})

t.test('a server that joins while a client is down is told of it, too, and one that has left is not', async (t) => {
  const redis = await restartableRedis(t)
  const storage = new RedisStorage(redis.url)
  const first = await startBot(t, { storage, loadTimeout: 100 })
  t.equal((await post(first.url, message())).status, 500)
  const second = await startBot(t, { storage })
  t.match(second.app.botasState.stats.outage, { reason: /ECONNREFUSED/, since: Number })
  t.equal(second.log.length, 1)
  await first.app.close()
  await redis.start()
  await settled(() => second.app.botasState.stats.outage === null)
  t.match(first.app.botasState.stats.outage, { reason: /ECONNREFUSED/ })
})

/** Turns of several clients at once, through an outage of three seconds. */
async function underLoad (t: Test, { app, url }: TestServer, outage: () => Promise<void>) {
  const answered = new Map<string, string>()
  const refused = new Set<string>()
  const conversations = 20
  const over = new AbortController()
  let next = 0
  let longest = 0
  const client = async (client: number) => {
    while (!over.signal.aborted) {
      const id = `turn-${next++}`
      const before = performance.now()
      const { status, body } = await post(url, message({ conversation: String(client % conversations), id }))
      longest = Math.max(longest, performance.now() - before)
      if (status === 200) answered.set(id, body.reqId)
      else refused.add(id)
    }
  }
  const clients = Promise.all(Array.from({ length: 2 * conversations }, (_, index) => client(index)))
  await wait(500)
  await outage()
  await wait(500)
  over.abort()
  await clients
  await settled(() => app.botasState.stats.pendingFlushes === 0)
  const keys = Array.from({ length: conversations }, (_, index) => `test/bot/conversations/${index}`)
  const documents = Object.values(await app.botasState.storage.read(keys)) as StateDocument[]
  const stored = new Set(documents.flatMap((document) => Object.keys(document).filter((name) => name !== 'count')))
  t.comment(`${answered.size} turns answered, ${refused.size} refused, the longest took ${Math.round(longest)} ms; ${JSON.stringify(app.botasState.stats)}`)
  for (const document of documents) t.equal(document.count, Object.keys(document).length - 1, 'no turn is counted twice')
  return { answered, refused, stored }
}

t.test('no turn is lost without a word when Redis restarts', { jobs: 4 }, async (t) => {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    for (const flush of ['onSend', 'onResponse'] as const) {
      t.test(`after a ${signal}, flush: ${flush}`, { buffered: true }, async (t) => {
        const redis = await restartableRedis(t)
        await redis.start()
        const bot = await startBot(t, { storage: redis.url, flush })
        const { answered, refused, stored } = await underLoad(t, bot, async () => {
          await redis.stop(signal)
          await wait(3000)
          await redis.start()
        })
        const reported = new Set(bot.log.filter(({ code }) => code === 'FST_BOTAS_STATE_SAVE_FAILED').map(({ reqId }) => reqId))
        const lost = [...answered].filter(([id, reqId]) => !stored.has(id) && !(flush === 'onResponse' && reported.has(reqId)))
        t.strictSame(lost, [], 'every answered turn is stored, or, after its answer, reported')
        t.strictSame([...stored].filter((id) => !answered.has(id) && !refused.has(id)), [])
      })
    }
  }
})

t.test('a server that hangs is like one that is down, and turns go on when it does', { jobs: 2 }, async (t) => {
  for (const whose of ['ours', 'a user\'s'] as const) {
    t.test(`with a client that is ${whose}`, { buffered: true }, async (t) => {
      const redis = await restartableRedis(t)
      await redis.start()
      const theirs = new Redis(redis.url, { lazyConnect: true })
      t.teardown(() => theirs.disconnect())
      const storage = whose === 'ours' ? redis.url : new RedisStorage(theirs)
      const { app, url, log } = await startBot(t, { storage, loadTimeout: 400 })
      t.equal((await post(url, message({ id: 'before' }))).status, 200)
      await settled(() => app.botasState.stats.pendingFlushes === 0)
      redis.signal('SIGSTOP')
      const before = performance.now()
      t.match(await post(url, message()), { status: 500, body: { code: 'FST_BOTAS_STATE_LOAD_FAILED' } })
      t.ok(performance.now() - before < 1000)
      await wait(1000)
      t.match(await post(url, message()), { status: 500 })
      t.match(app.botasState.stats.outage, { reason: 'Redis: the server does not answer' })
      // Long enough that a connection of ours is made anew, to a server that accepts it and says nothing.
      await wait(6000)
      t.equal((await fetch(`${url}/health`)).status, 503)
      redis.signal('SIGCONT')
      const back = performance.now()
      await settled(async () => (await post(url, message({ id: 'after' }))).status === 200)
      t.ok(performance.now() - back < 1000, 'it works again within a second')
      t.equal(log.filter(({ msg }) => msg.includes('cannot be reached')).length, 1)
    })
  }
})

t.test('a server that hangs is noticed though the client itself gives up waiting, and gets no burst afterwards', { jobs: 2 }, async (t) => {
  for (const commandTimeout of [300, 2000]) {
    t.test(`after ${commandTimeout} ms`, { buffered: true }, async (t) => {
      const redis = await restartableRedis(t)
      await redis.start()
      const theirs = new Redis(redis.url, { commandTimeout })
      t.teardown(() => theirs.disconnect())
      const { app, url, log } = await startBot(t, { storage: new RedisStorage(theirs), loadTimeout: 500 })
      t.equal((await post(url, message({ id: 'before' }))).status, 200)
      await settled(() => app.botasState.stats.pendingFlushes === 0)
      await theirs.config('RESETSTAT')
      redis.signal('SIGSTOP')
      const begun = performance.now()
      while (performance.now() - begun < 4000) {
        await Promise.all(Array.from({ length: 50 }, (_, n) => post(url, message({ conversation: String(n) }))))
      }
      t.match(app.botasState.stats, { outage: { reason: 'Redis: the server does not answer' } })
      redis.signal('SIGCONT')
      await settled(async () => (await post(url, message({ id: 'after' }))).status === 200)
      t.equal(log.filter(({ msg }) => msg.includes('cannot be reached')).length, 1)
      const [, gets] = /cmdstat_get:calls=(\d+)/.exec(await theirs.info('commandstats')) ?? []
      // In the second before the silence counts up to four rounds of 100 begin; then come the probes.
      t.ok(Number(gets) < 500, `${gets} GETs for ${app.botasState.stats.loadFailures} turns that failed, two each`)
    })
  }
})

t.test('a save waits for a server that hangs for a while, and is done once', async (t) => {
  const redis = await restartableRedis(t)
  await redis.start()
  const { app } = await startBot(t, { storage: redis.url })
  const count = () => app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: 'conversation-1' }, async ({ conversation }) => {
    redis.signal('SIGSTOP')
    conversation.update<number>('count', (count) => (count ?? 0) + 1)
  })
  for (let turn = 1; turn <= 3; turn++) {
    const saved = count()
    await settled(() => app.botasState.stats.pendingFlushes === 1)
    await wait(300)
    t.equal(app.botasState.stats.pendingFlushes, 1)
    redis.signal('SIGCONT')
    await saved
    t.strictSame(await app.botasState.storage.read([CONVERSATION_KEY]), { [CONVERSATION_KEY]: { count: turn } })
  }
})

t.test('commands of turns that were given up are not sent when a server is back, whoever made the client', async (t) => {
  const redis = await restartableRedis(t)
  const theirs = new Redis(redis.url)
  t.teardown(() => theirs.disconnect())
  for (const storage of [redis.url, new RedisStorage(theirs)]) {
    const { app, url } = await startBot(t, { storage, loadTimeout: 200 })
    await Promise.all(Array.from({ length: 500 }, () => post(url, message())))
    t.equal(app.botasState.stats.loadFailures, 500)
    await redis.start()
    await settled(() => app.botasState.stats.outage === null)
    await wait(200)
    const client = new Redis(redis.url)
    t.notMatch(await client.info('commandstats'), /cmdstat_get:/)
    client.disconnect()
    await redis.stop()
  }
})

t.test('a client of ours is closed within a second, whatever the server does', async (t) => {
  for (const state of ['up', 'down', 'hung'] as const) {
    const redis = await restartableRedis(t)
    await redis.start()
    const { app, url } = await startBot(t, { storage: redis.url, loadTimeout: 500 })
    t.equal((await post(url, message({ id: 'first' }))).status, 200)
    await settled(() => app.botasState.stats.pendingFlushes === 0)
    if (state === 'down') await redis.stop()
    if (state === 'hung') redis.signal('SIGSTOP')
    if (state !== 'up') t.equal((await post(url, message({ id: 'second' }))).status, 500)
    const before = performance.now()
    await app.close()
    t.ok(performance.now() - before < 1000, `${state}: ${Math.round(performance.now() - before)} ms`)
  }
})

t.test('a process ends after its server was closed, whatever Redis does', async (t) => {
  for (const state of ['up', 'down from the start', 'gone', 'hung'] as const) {
    const redis = await restartableRedis(t)
    if (state !== 'down from the start') await redis.start()
    // One turn at the beginning: it is over, or waits for its load, when the process is to end.
    const { child, lines, exited } = startProcess(t, 'bot-in-outage.js', redis.url, '0.1')
    await lines.next()
    if (state === 'gone') await redis.stop()
    if (state === 'hung') redis.signal('SIGSTOP')
    const before = performance.now()
    child.kill('SIGTERM')
    t.strictSame(await exited, { code: 0, signal: null, errors: '' }, state)
    // A turn that is open is waited for.
    t.ok(performance.now() - before < (state === 'down from the start' ? 8000 : 3000), state)
  }
})
