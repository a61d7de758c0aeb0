import { setTimeout as wait } from 'node:timers/promises'
import { Redis } from 'ioredis'
import t from 'tap'
import { RedisStorage } from '../../../../lib/storage/redis/redis-storage.js'
import { message } from '../../../helpers/activities.js'
import { post, settled } from '../../../helpers/build-fastify.js'
import { outageSuite, startBot } from '../../../helpers/outage-suite.js'
import { restartableRedis } from '../../../helpers/redis-server.js'
import { testedServers } from '../../../helpers/tested-servers.js'

outageSuite(t, 'Redis', testedServers.Redis, 1000)

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

t.test('with a client of a user\'s a server that hangs is like one that is down, and turns go on when it does', async (t) => {
  const redis = await restartableRedis(t)
  await redis.start()
  const theirs = new Redis(redis.url, { lazyConnect: true })
  t.teardown(() => theirs.disconnect())
  const { app, url, log } = await startBot(t, { storage: new RedisStorage(theirs), loadTimeout: 400 })
  t.equal((await post(url, message({ id: 'before' }))).status, 200)
  await settled(() => app.botasState.stats.pendingFlushes === 0)
  redis.signal('SIGSTOP')
  t.match(await post(url, message()), { status: 500, body: { code: 'FST_BOTAS_STATE_LOAD_FAILED' } })
  await wait(1000)
  t.match(await post(url, message()), { status: 500 })
  t.match(app.botasState.stats.outage, { reason: 'Redis: the server does not answer' })
  await wait(6000)
  t.equal((await fetch(`${url}/health`)).status, 503)
  redis.signal('SIGCONT')
  const back = performance.now()
  await settled(async () => (await post(url, message({ id: 'after' }))).status === 200)
  t.ok(performance.now() - back < 1000, 'it works again within a second')
  t.equal(log.filter(({ msg }) => msg.includes('cannot be reached')).length, 1)
})

t.test('a single turn finds that a server answers again which had hung, though the client gave up waiting', async (t) => {
  const redis = await restartableRedis(t)
  await redis.start()
  const theirs = new Redis(redis.url, { commandTimeout: 300 })
  t.teardown(() => theirs.disconnect())
  const { url } = await startBot(t, { storage: new RedisStorage(theirs), loadTimeout: 500 })
  t.equal((await post(url, message({ id: 'before' }))).status, 200)
  redis.signal('SIGSTOP')
  t.equal((await post(url, message())).status, 500)
  await wait(3000)
  redis.signal('SIGCONT')
  // Answered late, and to nobody: what was sent to it has to be forgotten.
  await wait(100)
  await settled(async () => (await post(url, message({ id: 'after' }))).status === 200, 3000)
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

t.test('commands of turns that were given up are not sent when a server is back, whoever made the client', async (t) => {
  const redis = await restartableRedis(t)
  const theirs = new Redis(redis.url)
  t.teardown(() => theirs.disconnect())
  for (const storage of [redis.url, new RedisStorage(theirs)]) {
    const { app, url } = await startBot(t, { storage, loadTimeout: 200 })
    await Promise.all(Array.from({ length: 500 }, () => post(url, message())))
    t.equal(app.botasState.stats.loadFailures, 500)
    await redis.start()
    const client = new Redis(redis.url)
    await settled(async () => /connected_clients:[2-9]/.test(await client.info('clients')))
    await wait(500)
    t.notMatch(await client.info('commandstats'), /cmdstat_get:/)
    client.disconnect()
    await redis.stop()
  }
})
