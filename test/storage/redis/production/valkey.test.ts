import { Redis } from 'ioredis'
import t from 'tap'
import { RedisStorage } from '../../../../lib/storage/redis/redis-storage.js'
import { CONVERSATION_KEY, USER_KEY, message } from '../../../helpers/activities.js'
import { buildFastify, post } from '../../../helpers/build-fastify.js'
import { startRedis } from '../../../helpers/redis-server.js'
import { storageSuite } from '../../../helpers/storage-suite.js'

const server = await startRedis(t, [], 'valkey-server')
const client = new Redis(server.url)
t.teardown(() => client.disconnect())

t.test('Valkey with a URL', async (t) => {
  t.match(await client.info('server'), /^valkey_version:/m)
  storageSuite(t, (t, options) => new RedisStorage(server.url, { ...options, keyPrefix: `${t.fullname}:` }))
})

t.test('turns that overlap on Valkey lose nothing', async (t) => {
  await client.flushall()
  const { url, log } = await buildFastify(t, { storage: server.url, flush: 'onSend' }, (app) => {
    app.post('/', async ({ state: { conversation, user } }) => {
      user.set('name', 'Zoë')
      return { count: conversation.update<number>('count', (n = 0) => n + 1) }
    })
  })
  await Promise.all(Array.from({ length: 50 }, () => post(url, message())))
  t.strictSame((await post(url, message())).body, { count: 51 })
  t.equal(await client.get(`botas:${CONVERSATION_KEY}`), '{"count":51}')
  t.equal(await client.get(`botas:${USER_KEY}`), '{"name":"Zoë"}')
  t.strictSame(log, [])
})
