import { setTimeout as wait } from 'node:timers/promises'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { RedisStorage } from '../../../lib/storage/redis/redis-storage.js'
import { message } from '../../helpers/activities.js'
import { buildFastify, post } from '../../helpers/build-fastify.js'
import { forgettingSuite } from '../../helpers/forgetting-suite.js'
import { everythingIn } from '../../helpers/everything-in-redis.js'
import { lossyWay } from '../../helpers/lossy-way.js'
import { startRedis } from '../../helpers/redis-server.js'

const USER = 'test/bot/users/u'
const IDENTITY = { channelId: 'test', botId: 'bot', userId: 'u' }

function clientAt (t: Test, url: string): Redis {
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  return client
}

async function open (t: Test) {
  const { url } = await startRedis(t)
  const client = clientAt(t, url)
  return { url, client, storage: new RedisStorage(client), everything: () => everythingIn(client) }
}

forgettingSuite(t, open)

const [SAVED, MARKS] = [`botas:~saved:{botas:${USER}}`, `botas:~marks:{botas:${USER}}`]
const mark = (member: string) => `botas:~mark:{botas:${USER}}:${member}`

t.test('a token of another process stays where a document is forgotten, for a minute', async (t) => {
  const { client, storage } = await open(t)
  const [here, there] = await Promise.all([storage, new RedisStorage(client)].map((storage) => buildFastify(t, { storage }, () => {}))) as [Bot, Bot]
  await here.app.botasState.run(IDENTITY, ({ user }) => user.set('n', 1))
  const own = await client.hkeys(SAVED)
  await there.app.botasState.run(IDENTITY, ({ user }) => user.set('n', 2))
  await here.app.botasState.run(IDENTITY, (state) => state.deleteUserState())
  t.strictSame(await client.keys('*'), [SAVED])
  const left = await client.hkeys(SAVED)
  t.equal(left.length, 1)
  t.notSame(left, own)
  const expires = await client.pttl(SAVED)
  t.ok(expires > 0 && expires <= 60_000, `${expires} ms`)
})

type Bot = Awaited<ReturnType<typeof buildFastify>>

t.test('the tokens of a document are kept for the longest time that one of them needs, those of the 64 processes that came last', async (t) => {
  const { client, storage } = await open(t)
  const call = { signal: new AbortController().signal, timeout: 90_000, retrying: () => {} }
  await storage.update(USER, () => ({ n: 1 }), undefined, call)
  const [own] = await client.hkeys(SAVED) as [string]
  await new RedisStorage(client).update(USER, () => ({ n: 2 }))
  t.ok(await client.pttl(SAVED) > 80_000)
  for (let process = 0; process < 62; process++) await client.hset(SAVED, `process ${process}`, '0:1')
  await new RedisStorage(client).update(USER, () => ({ n: 3 }))
  t.equal(await client.hlen(SAVED), 64)
  t.notOk(await client.hexists(SAVED, own), 'the one that came first makes room')
  await storage.update(USER, () => ({ n: 4 }))
  t.equal(await client.hlen(SAVED), 64)
  t.ok(await client.hexists(SAVED, own), 'and comes again with its next save')
})

t.test('a save that arrives after a later one of its process stores nothing', async (t) => {
  const { client, storage } = await open(t)
  await storage.update(USER, () => ({ n: 1 }))
  const [own] = await client.hkeys(SAVED) as [string]
  await client.hset(SAVED, own, '7:1')
  await storage.update(USER, () => ({ n: 2 }))
  t.strictSame(await storage.read([USER]), { [USER]: { n: 1 } })
  t.strictSame(await client.hgetall(SAVED), { [own]: '7:1' })
})

t.test('a save that waits for an earlier one of its document begins nothing once nobody waits for it', async (t) => {
  const { client, storage } = await open(t)
  const caller = new AbortController()
  const first = storage.update(USER, () => ({ n: 1 }))
  const second = storage.update(USER, () => ({ n: 2 }), undefined, { signal: caller.signal, retrying: () => {} })
  const third = storage.update(USER, (document) => ({ ...document, third: true }))
  caller.abort()
  await t.rejects(second, { name: 'AbortError' })
  await Promise.all([first, third])
  t.equal(await client.get(`botas:${USER}`), '{"n":1,"third":true}')
})

t.test('the index of what is remembered holds no longer what is forgotten by its time, and lives as long as the last of it', async (t) => {
  const { client, storage } = await open(t)
  const [day, moment] = await Promise.all([86_400, 1].map((ttl) => buildFastify(t, { storage, once: { ttl } }, () => {}))) as [Bot, Bot]
  await day.app.botasState.run({ ...IDENTITY, activityId: 'for a day' }, () => {})
  await moment.app.botasState.run({ ...IDENTITY, activityId: 'for a second' }, () => {})
  t.strictSame((await client.zrange(MARKS, '0', '-1')).sort(), ['for%20a%20day', 'for%20a%20second'])
  t.ok(await client.pttl(MARKS) > 86_000_000)
  await wait(1100)
  await day.app.botasState.run({ ...IDENTITY, activityId: 'and another' }, () => {})
  t.strictSame(await client.zrange(MARKS, '0', '-1'), ['for%20a%20day', 'and%20another'])
  for (const member of await client.zrange(MARKS, '0', '-1')) t.equal(await client.exists(mark(member)), 1)
})

t.test('however many activities are remembered, all are forgotten, but one that is handled again now', async (t) => {
  const { client, storage } = await open(t)
  const { app } = await buildFastify(t, { storage, once: true }, () => {})
  const members = Array.from({ length: 2500 }, (_, index) => `a${index}`)
  await client.zadd(MARKS, ...members.flatMap((member) => [Date.now() + 60_000, member]))
  await client.mset(...members.flatMap((member) => [mark(member), member === 'a7' ? 'somebody-1' : '=']))
  await app.botasState.run(IDENTITY, (state) => state.deleteUserState())
  t.strictSame(await client.keys('*'), [mark('a7')])
})

t.test('the token of a save stays for its minute where a copy of it may still be on its way', async (t) => {
  const { client, storage } = await open(t)
  const { app } = await buildFastify(t, { storage }, () => {})
  await app.botasState.run(IDENTITY, ({ user }) => user.set('n', 1))
  client.disconnect(true)
  await app.botasState.run(IDENTITY, (state) => state.deleteUserState())
  t.strictSame(await client.keys('*'), [SAVED])
  t.ok(await client.pttl(SAVED) <= 60_000)
})

t.test('of a user who is deleted nothing is left either where the deletion had to wait for another save', async (t) => {
  const { client, storage } = await open(t)
  const { app } = await buildFastify(t, { storage }, () => {})
  let update: Promise<void> | undefined
  await app.botasState.run(IDENTITY, (state) => {
    update = storage.update(USER, () => ({ n: 1 }))
    state.deleteUserState()
  })
  await update
  t.strictSame(await client.keys('*'), [])
})

t.test('a turn that is replaced, so that it deletes nobody, leaves the token, too', async (t) => {
  const { client, storage } = await open(t)
  const { app, url } = await buildFastify(t, { storage, concurrency: 'replace', flush: 'onSend' }, (app) => {
    app.post('/', async ({ state }) => {
      state.deleteUserState()
      await client.set('botas:~place:{botas:test/bot/conversations/conversation-1}', `somebody:${Date.now() + 60_000}:0`)
    })
  })
  await app.botasState.run(IDENTITY, ({ user }) => user.set('n', 1))
  t.match(await post(url, message({ user: 'u' })), { status: 409, body: { code: 'FST_BOTAS_STATE_REPLACED' } })
  t.equal(await client.hlen(SAVED), 1)
})

t.test('a user who is deleted while the server hangs, or ends, right after that, is deleted, and nobody waits for the token', async (t) => {
  for (const signal of ['SIGSTOP', 'SIGKILL'] as const) {
    for (const flushTimeout of [200, 30_000]) {
      const server = await startRedis(t)
      let isLast = false
      const url = await lossyWay(t, server.port, (direction) => {
        if (direction === 'answers' && isLast) server.process.kill(signal)
        return false
      })
      const { app } = await buildFastify(t, { storage: new RedisStorage(clientAt(t, url)), flushTimeout }, () => {})
      await app.botasState.run(IDENTITY, ({ user }) => user.set('n', 1))
      let begun = NaN
      await t.resolves(app.botasState.run(IDENTITY, (state) => {
        state.deleteUserState()
        begun = performance.now()
        isLast = true
      }), `${signal}, ${flushTimeout} ms`)
      const took = performance.now() - begun
      t.ok(took < 800, `${Math.round(took)} ms`)
      t.equal(app.botasState.stats.flushFailures, 0)
    }
  }
})
