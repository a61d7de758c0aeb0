import { setTimeout as wait } from 'node:timers/promises'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { RedisStorage } from '../../../lib/storage/redis/redis-storage.js'
import { type TestServer, buildFastify, post, settled } from '../../helpers/build-fastify.js'
import { message } from '../../helpers/activities.js'
import { freePort } from '../../helpers/free-port.js'
import { everythingIn } from '../../helpers/everything-in-redis.js'
import { forgettingSuite } from '../../helpers/forgetting-suite.js'
import { startRedis } from '../../helpers/redis-server.js'

const [CONVERSATION, USER] = ['botas:test/bot/conversations/conversation-1', 'botas:test/bot/users/user-1']

/** A Cluster of one node, to which a plain client speaks as to any server: it hears of the slots by an error only. */
async function startNode (t: Test) {
  const { url } = await startRedis(t, ['--cluster-enabled', 'yes', '--cluster-port', String(await freePort())])
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  await client.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383')
  await settled(async () => (await client.call('CLUSTER', 'INFO') as string).includes('cluster_state:ok'))
  return { url, client, stored: async (key: string) => JSON.parse(await client.get(key) ?? 'null') }
}

t.test('a turn whose documents may not be in one command is saved by two, where a server says so', async (t) => {
  for (const concurrency of ['parallel', 'queue', 'reject', 'replace'] as const) {
    for (const once of [false, true]) {
      await t.test(`${concurrency}, once: ${once}`, async (t) => {
        const { url, client, stored } = await startNode(t)
        const bots = await Promise.all([1, 2].map(() => buildFastify(t, { storage: url, flush: 'onSend', once, concurrency }, (app) => {
          app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation, user } }) => {
            if (text !== 'of the user') conversation.update<number>('n', (n = 0) => n + 1)
            if (text !== 'of the conversation') user.update<number>('n', (n = 0) => n + 1)
          })
        }))) as [TestServer, TestServer]
        const texts = ['of the user', 'of the conversation', 'of both']
        for (const [index, text] of [...texts, ...texts].entries()) {
          const activity = message({ id: String(index), text })
          t.equal((await post(bots[0].url, activity)).status, 200, text)
          if (once) t.equal((await post(bots[1].url, activity)).status, 200)
        }
        t.strictSame([await stored(CONVERSATION), await stored(USER)], [{ n: 4 }, { n: 4 }])
        t.strictSame(await client.keys('*~place*'), [])
      })
    }
  }
})

t.test('where a server says so, a turn that was replaced before its first document is saved stores neither', async (t) => {
  const { url, client, stored } = await startNode(t)
  const { url: bot } = await buildFastify(t, { storage: url, flush: 'onSend', concurrency: 'replace' }, (app) => {
    app.post('/', async ({ state: { conversation, user } }) => {
      conversation.set('n', 1)
      user.set('n', 1)
      await client.set(`botas:~place:{${CONVERSATION}}`, `somebody:${Date.now() + 60_000}:0`)
      await wait(5)
    })
  })
  t.match(await post(bot, message()), { status: 409, body: { code: 'FST_BOTAS_STATE_REPLACED' } })
  t.strictSame([await stored(CONVERSATION), await stored(USER)], [null, null])
})

t.test('where a server says so, what stands beside each of the documents of a turn', async (t) => {
  const { client } = await startNode(t)
  forgettingSuite(t, async () => {
    await client.flushall()
    return { storage: new RedisStorage(client), everything: () => everythingIn(client) }
  })
})
