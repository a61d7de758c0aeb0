import { Redis } from 'ioredis'
import t from 'tap'
import { RedisStorage } from '../../../lib/storage/redis/redis-storage.js'
import { buildFastify } from '../../helpers/build-fastify.js'
import { type Direction, lossyWay, losingWay } from '../../helpers/lossy-way.js'
import { startRedis } from '../../helpers/redis-server.js'

const IDENTITY = { channelId: 'test', botId: 'bot', conversationId: 'c', userId: 'u' }
const CONVERSATION = 'test/bot/conversations/c'
const USER = 'test/bot/users/u'
const plus = (by: number) => (n = 0) => n + by

t.test('a save whose answer was lost is known to be done, whoever made the client, also when the document was brought back since', async (t) => {
  const redis = await startRedis(t)
  for (const whose of ['ours', 'a user\'s'] as const) {
    for (const lost of ['requests', 'answers'] as const) {
      const way = await losingWay(t, redis.port)
      const theirs = new Redis(way.url, { lazyConnect: true })
      t.teardown(() => theirs.disconnect())
      const { app } = await buildFastify(t, { storage: whose === 'ours' ? way.url : new RedisStorage(theirs) }, () => {})
      const somebody = new RedisStorage(redis.url)
      t.teardown(() => somebody.close())
      await somebody.write({ [CONVERSATION]: { n: 5 }, [USER]: { n: 5 } })
      const add = (meanwhile?: Direction) => app.botasState.run(IDENTITY, ({ conversation, user }) => {
        if (meanwhile !== undefined) way.lose(meanwhile)
        conversation.update('n', plus(1))
        return user.update('n', plus(1))
      })
      const saved = add(lost)
      // The command is sent again after 50 ms at the earliest.
      if (lost === 'answers') {
        while ((await somebody.read([CONVERSATION]))[CONVERSATION]?.n !== 6) { /* not there yet */ }
        await somebody.update(CONVERSATION, (document) => ({ n: document?.n as number - 1 }))
        await somebody.delete([USER])
      }
      t.equal(await saved, 6)
      const expected = lost === 'answers' ? { [CONVERSATION]: { n: 5 } } : { [CONVERSATION]: { n: 6 }, [USER]: { n: 6 } }
      t.strictSame(await somebody.read([CONVERSATION, USER]), expected, `${lost} of a client that is ${whose}`)
    }
  }
})

t.test('of a turn both documents are saved or none, whatever comes between', async (t) => {
  const redis = await startRedis(t)
  const { app } = await buildFastify(t, { storage: redis.url }, () => {})
  const somebody = new Redis(redis.url)
  t.teardown(() => somebody.disconnect())
  const refused = app.botasState.run(IDENTITY, async ({ conversation, user }) => {
    conversation.set('n', 1)
    user.update<number>('n', (n) => {
      if (n === 2) throw new Error('not for what somebody else has stored')
      return 1
    })
    await somebody.set(`botas:${USER}`, '{"n":2}')
  })
  await t.rejects(refused, { code: 'FST_BOTAS_STATE_SAVE_FAILED', message: new RegExp(`saved: none; not known to be saved: "${CONVERSATION}", "${USER}"`) })
  t.equal(await somebody.get(`botas:${CONVERSATION}`), null)
  t.equal(await somebody.get(`botas:${USER}`), '{"n":2}')
})

t.test('a key that became another type than a string since the load is a corrupt document for a turn that saves', async (t) => {
  const redis = await startRedis(t)
  const { app } = await buildFastify(t, { storage: redis.url }, () => {})
  const somebody = new Redis(redis.url)
  t.teardown(() => somebody.disconnect())
  const meanwhile = (change: (state: Parameters<Parameters<typeof app.botasState.run>[1]>[0]) => void) =>
    app.botasState.run(IDENTITY, async (state) => {
      change(state)
      await somebody.del(`botas:${CONVERSATION}`)
      await somebody.rpush(`botas:${CONVERSATION}`, 'a list')
    })
  await t.rejects(meanwhile(({ conversation }) => conversation.set('n', 1)), {
    code: 'FST_BOTAS_STATE_SAVE_FAILED', cause: { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT' }
  })
  await t.resolves(meanwhile((state) => state.deleteConversationState()))
  t.equal(await somebody.exists(`botas:${CONVERSATION}`), 0)
})

t.test('on connections that break all the time, with others who bring documents back, every save is done once and none is in doubt', async (t) => {
  const redis = await startRedis(t)
  const runs = Number(process.env.EXACT_SAVES_RUNS ?? 300)
  const ways = await Promise.all([1, 2].map(() => lossyWay(t, redis.port, () => Math.random() < 0.05)))
  const apps = await Promise.all(ways.map((storage) => buildFastify(t, { storage }, () => {})))
  const somebody = new RedisStorage(redis.url)
  t.teardown(() => somebody.close())
  const others = new AbortController()
  // What a turn was loaded with is stored again in a moment.
  const bringingBack = [0, 1].map(async () => {
    while (!others.signal.aborted) {
      await somebody.update(CONVERSATION, (document) => ({ ...document, n: ((document?.n as number | undefined) ?? 0) + 1 }))
      await somebody.update(CONVERSATION, (document) => ({ ...document, n: (document?.n as number) - 1 }))
    }
  })
  await Promise.all(apps.map(async ({ app }) => {
    for (let run = 0; run < runs; run++) {
      await app.botasState.run(IDENTITY, ({ conversation, user }) => {
        conversation.update('n', plus(1))
        if (run % 2 === 0) user.update('n', plus(1))
      })
    }
  }))
  others.abort()
  await Promise.all(bringingBack)
  t.strictSame(await somebody.read([CONVERSATION, USER]), { [CONVERSATION]: { n: 2 * runs }, [USER]: { n: runs } })
})

t.test('what stands beside a document is gone within two minutes, and lies in the slot of the document', async (t) => {
  const redis = await startRedis(t)
  const { app } = await buildFastify(t, { storage: redis.url, flushTimeout: 90_000 }, () => {})
  const client = new Redis(redis.url)
  t.teardown(() => client.disconnect())
  await app.botasState.run(IDENTITY, ({ conversation }) => conversation.set('n', 1))
  const [key, ...others] = await client.keys('botas:~*') as [string]
  t.strictSame(others, [])
  t.ok(key.startsWith(`botas:~saved:{botas:${CONVERSATION}}:`))
  const left = await client.pttl(key)
  t.ok(left > 60_000 && left <= 90_000, `${left} ms`)
})
