import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { RedisStorage } from '../../../lib/storage/redis/redis-storage.js'
import { buildFastify } from '../../helpers/build-fastify.js'
import { exactSavesSuite } from '../../helpers/exact-saves-suite.js'
import { startRedis } from '../../helpers/redis-server.js'
import { testedServers } from '../../helpers/tested-servers.js'

const IDENTITY = { channelId: 'test', botId: 'bot', conversationId: 'c', userId: 'u' }
const CONVERSATION = 'test/bot/conversations/c'
const USER = 'test/bot/users/u'

function clientAt (t: Test, url: string): Redis {
  const client = new Redis(url, { lazyConnect: true })
  t.teardown(() => client.disconnect())
  return client
}

for (const whose of ['ours', 'a user\'s'] as const) {
  t.test(`with a client that is ${whose}`, async (t) => exactSavesSuite(t, async (t) => {
    const server = await testedServers.Redis(t)
    return whose === 'ours' ? server : { ...server, storageAt: (port) => new RedisStorage(clientAt(t, server.urlAt(port))) }
  }, { remembersRemovals: true, runs: 300 }))
}

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

t.test('what stands beside a document is gone within two minutes, and lies in the slot of the document', async (t) => {
  const redis = await startRedis(t)
  const { app } = await buildFastify(t, { storage: redis.url, flushTimeout: 90_000 }, () => {})
  const client = new Redis(redis.url)
  t.teardown(() => client.disconnect())
  await app.botasState.run(IDENTITY, ({ conversation }) => conversation.set('n', 1))
  const [key, ...others] = await client.keys('botas:~*') as [string]
  t.strictSame(others, [])
  t.equal(key, `botas:~saved:{botas:${CONVERSATION}}`)
  const left = await client.pttl(key)
  t.ok(left > 60_000 && left <= 90_000, `${left} ms`)
})
