import { setTimeout as wait } from 'node:timers/promises'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { RedisStorage } from '../../../lib/storage/redis/redis-storage.js'
import { message } from '../../helpers/activities.js'
import { buildFastify, post, settled } from '../../helpers/build-fastify.js'
import { losingWay, lossyWay } from '../../helpers/lossy-way.js'
import { startProcess } from '../../helpers/node-process.js'
import { restartableRedis, startRedis } from '../../helpers/redis-server.js'

const LEASE = 600
const PLACE = 'botas:~place:{botas:test/bot/conversations/conversation-1}'

async function clientOf (t: Test, url: string) {
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  return { client, stored: async (key: string) => JSON.parse(await client.get(key) ?? 'null') }
}

t.test('a save is refused by the storage itself, before the turn could notice that it was replaced', async (t) => {
  const { url } = await startRedis(t)
  const { client, stored } = await clientOf(t, url)
  const { app, url: bot } = await buildFastify(t, { storage: url, concurrency: 'replace', flush: 'onSend' }, (app) => {
    app.post('/', async ({ state: { conversation } }) => {
      conversation.set('n', 1)
      await client.set('botas:~place:{botas:test/bot/conversations/conversation-1}', `somebody:${Date.now() + 60_000}:0`)
    })
  })
  t.match(await post(bot, message()), { status: 409, body: { code: 'FST_BOTAS_STATE_REPLACED' } })
  t.equal(await stored('botas:test/bot/conversations/conversation-1'), null)
  t.equal(app.botasState.stats.flushFailures, 1)
})

t.test('a place costs no command where nothing else is asked for: it is taken with the load, and left with the save', async (t) => {
  const { url } = await startRedis(t)
  const { client } = await clientOf(t, url)
  const monitor = await client.monitor()
  t.teardown(() => monitor.disconnect())
  const sent: string[] = []
  monitor.on('monitor', (_time, [command]: [string], source: string) => { if (source !== 'lua') sent.push(command.toLowerCase()) })
  const expected = {
    parallel: { read: ['get', 'get'], write: ['get', 'get', 'evalsha'] },
    queue: { read: ['evalsha', 'evalsha'], write: ['evalsha', 'evalsha'] }
  }
  for (const concurrency of ['parallel', 'queue', 'reject', 'replace'] as const) {
    const { app, url: bot } = await buildFastify(t, { storage: url, concurrency, flush: 'onSend' }, (app) => {
      app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation, user } }) => {
        if (text === 'read') return
        conversation.update<number>('n', (n = 0) => n + 1)
        user.update<number>('n', (n = 0) => n + 1)
      })
    })
    // The server gets to know the scripts.
    for (const text of ['write', 'read']) await post(bot, message({ text }))
    for (const text of ['write', 'read'] as const) {
      await client.echo('begin')
      sent.splice(0)
      t.equal((await post(bot, message({ text }))).status, 200)
      await client.echo('end')
      await settled(() => sent.includes('echo'))
      t.strictSame(sent.filter((command) => command !== 'echo'), expected[concurrency === 'parallel' ? 'parallel' : 'queue'][text], `${concurrency}, ${text}`)
    }
    t.equal(app.botasState.stats.openTurns, 0)
    t.strictSame(await client.keys('botas:~place*'), [])
  }
})

t.test('with renew: \'load\' a turn that takes its place makes what it loads live on, too', async (t) => {
  const { url } = await startRedis(t)
  const { client } = await clientOf(t, url)
  const storage = new RedisStorage(url, { ttl: 100, renew: 'load' })
  const { app } = await buildFastify(t, { storage, concurrency: 'queue' }, () => {})
  const identity = { channelId: 'test', botId: 'bot', conversationId: 'c', userId: 'u' }
  await app.botasState.run(identity, ({ conversation, user }) => {
    conversation.set('n', 1)
    user.set('n', 1)
  })
  const keys = ['botas:test/bot/conversations/c', 'botas:test/bot/users/u']
  for (const key of keys) await client.expire(key, 10)
  t.equal(await app.botasState.run(identity, ({ conversation }) => conversation.get('n')), 1)
  for (const key of keys) t.ok(await client.ttl(key) > 90, key)
})

t.test('who has the reply finds the place free at every replica, whether the turn was saved or not', async (t) => {
  const { url } = await startRedis(t)
  const bots = await Promise.all([1, 2].map(() => buildFastify(t, { storage: url, concurrency: 'reject', flush: 'onSend' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation } }) => {
      if (text === 'write') conversation.update<number>('n', (n = 0) => n + 1)
    })
  })))
  for (let n = 0; n < 100; n++) {
    const bot = bots[n % 2] as typeof bots[0] & {}
    t.equal((await post(bot.url, message({ text: n % 3 === 0 ? 'write' : 'read' }))).status, 200)
  }
})

t.test('a place that was left together with a save is not taken again by a renewal', async (t) => {
  const { port, url } = await startRedis(t)
  const { client } = await clientOf(t, url)
  const way = await lossyWay(t, port, () => false, 30)
  const { url: bot } = await buildFastify(t, { storage: way, flush: 'onSend', concurrency: { strategy: 'replace', lease: LEASE } }, (app) => {
    app.post('/', async ({ state: { conversation } }) => {
      await wait(Math.random() * 150)
      conversation.update<number>('n', (n = 0) => n + 1)
    })
  })
  for (let n = 0; n < 40; n++) {
    t.equal((await post(bot, message())).status, 200)
    t.equal(await client.exists(PLACE), 0)
  }
})

t.test('an answer to "leave" that is lost does not block the conversation beyond the lease', async (t) => {
  const { port, url } = await startRedis(t)
  const way = await losingWay(t, port)
  const options = { concurrency: { strategy: 'queue', lease: LEASE } } as const
  let lost: 'requests' | 'answers' | undefined
  const lossy = await buildFastify(t, { storage: way.url, ...options }, (app) => {
    // What the turn sends next is that it leaves.
    app.post('/', async () => { if (lost !== undefined) way.lose(lost) })
  })
  const other = await buildFastify(t, { storage: url, ...options }, (app) => { app.post('/', async () => {}) })
  await post(lossy.url, message())
  for (lost of ['requests', 'answers'] as const) {
    const begun = performance.now()
    t.equal((await post(lossy.url, message())).status, 200)
    t.equal((await post(other.url, message())).status, 200)
    t.ok(performance.now() - begun < LEASE + 1000)
  }
})

t.test('whatever happens to the server, turns go on, and nothing is lost that was answered', async (t) => {
  const redis = await restartableRedis(t)
  await redis.start()
  const servers = await Promise.all([1, 2].map(() => buildFastify(t, {
    // For longer than the server is away: what has lost its place is merged by key.
    storage: redis.url, flush: 'onSend', concurrency: { strategy: 'queue', lease: 10_000, maxWaiting: 1000 }
  }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation } }) => {
      const texts = conversation.get<string[]>('texts') ?? []
      await wait(2)
      conversation.set('texts', [...texts, text])
    })
  })))
  const answered: string[] = []
  const failed: number[] = []
  const talk = new AbortController()
  const talking = servers.map(async ({ url }, server) => {
    for (let n = 0; !talk.signal.aborted; n++) {
      const text = `${server}-${n}`
      const { status } = await post(url, message({ text }))
      if (status === 200) answered.push(text)
      else failed.push(status)
    }
  })
  const admin = () => new Redis(redis.url)
  await wait(300)
  const client = admin()
  await client.call('CLIENT', 'PAUSE', '500', 'ALL')
  client.disconnect()
  await wait(1000)
  await redis.stop()
  await wait(500)
  await redis.start()
  const before = answered.length
  await wait(1000)
  talk.abort()
  await Promise.all(talking)
  const after = admin()
  t.teardown(() => after.disconnect())
  const { texts } = JSON.parse(await after.get('botas:test/bot/conversations/conversation-1') ?? '{}') as { texts: string[] }
  t.strictSame(answered.filter((text) => !texts.includes(text)), [])
  t.equal(new Set(texts).size, texts.length, 'none is there twice')
  for (const server of [0, 1]) t.ok(answered.slice(before).filter((text) => text.startsWith(`${server}-`)).length > 5, 'also afterwards')
  t.strictSame(servers.map(({ app }) => app.botasState.stats.leasesLost), [0, 0])
  t.comment(`${answered.length} answered, ${failed.length} failed`)
})

t.test('FLUSHALL in the middle: a turn whose place nobody has taken is saved; one that another one came between is merged, or refused', async (t) => {
  for (const strategy of ['queue', 'replace'] as const) {
    for (const isBetween of [false, true]) {
      const { url } = await startRedis(t)
      const { client, stored } = await clientOf(t, url)
      const bots = await Promise.all([1, 2].map(() => buildFastify(t, { storage: url, flush: 'onSend', concurrency: strategy }, (app) => {
        app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation } }) => {
          conversation.set(text, 1)
          if (text !== 'flush') return wait(50)
          await client.flushall()
          if (!isBetween) return
          between = post((bots[1] as typeof bots[0] & {}).url, message({ text: 'between' }))
          await settled(async () => await client.exists(PLACE) === 1)
        })
      })))
      let between: ReturnType<typeof post> | undefined
      const [bot] = bots as [typeof bots[0] & {}]
      t.equal((await post(bot.url, message({ text: 'flush' }))).status, isBetween && strategy === 'replace' ? 409 : 200)
      t.match(await between, isBetween ? { status: 200 } : undefined)
      t.match(bot.app.botasState.stats, { leasesLost: isBetween && strategy === 'queue' ? 1 : 0, replacedTurns: isBetween && strategy === 'replace' ? 1 : 0 })
      const saved = [isBetween && strategy === 'replace' ? [] : ['flush'], isBetween ? ['between'] : []].flat()
      t.strictSame(Object.keys(await stored('botas:test/bot/conversations/conversation-1')).sort(), saved.sort())
    }
  }
})

t.test('a process that hung for longer than its lease is not replaced by nobody, and its activity is not lost', async (t) => {
  const { url } = await startRedis(t)
  const { client, stored } = await clientOf(t, url)
  for (const strategy of ['queue', 'replace'] as const) {
    await client.flushall()
    const { app, url: bot } = await buildFastify(t, { storage: url, once: true, concurrency: { strategy, lease: 300 } }, (app) => {
      app.post('/', async ({ state: { conversation } }) => {
        conversation.update<number>('n', (n = 0) => n + 1)
        const until = Date.now() + 800
        while (Date.now() < until) { /* the event loop hangs */ }
        return { done: true }
      })
    })
    for (let delivery = 0; delivery < 2; delivery++) t.match(await post(bot, message({ id: 'a' })), { status: 200, body: { done: true } })
    t.match(app.botasState.stats, { leasesLost: 0, replacedTurns: 0, replayedTurns: 1 })
    t.strictSame(await stored('botas:test/bot/conversations/conversation-1'), { n: 1 })
  }
})

t.test('FLUSHALL in the middle of an activity that is handled once: it is stored once, and its next delivery gets the reply', async (t) => {
  const { url } = await startRedis(t)
  const { client, stored } = await clientOf(t, url)
  let runs = 0
  const { url: bot } = await buildFastify(t, { storage: url, once: true }, (app) => {
    app.post('/', async ({ state: { conversation } }) => {
      await client.flushall()
      conversation.update<number>('n', (n = 0) => n + 1)
      return { run: ++runs }
    })
  })
  for (let delivery = 0; delivery < 2; delivery++) t.strictSame((await post(bot, message({ id: 'a' }))).body, { run: 1 })
  t.strictSame(await stored('botas:test/bot/conversations/conversation-1'), { n: 1 })
})

/** Two processes of a bot with a model. */
async function modelBots (t: Test, strategy: string, tokens: number) {
  const { url } = await startRedis(t)
  const bots = await Promise.all([1, 2].map(async () => {
    const process = startProcess(t, 'model-bot.js', url, strategy, String(tokens))
    return { ...process, url: `http://127.0.0.1:${(await process.lines.next()).value}` }
  }))
  return { bots: bots as [typeof bots[0] & {}, typeof bots[0] & {}], ...await clientOf(t, url) }
}

t.test('of ten messages within 100 ms over two processes, with replace, one turn is saved, and the model of the others is asked for no more tokens', async (t) => {
  const { bots, stored } = await modelBots(t, 'replace', 50)
  await Promise.all(bots.map(({ url }) => post(url, message({ conversation: 'warm up' }))))
  const replies = await Promise.all(Array.from({ length: 10 }, async (_, n) => {
    await wait(10 * n)
    return post((bots[n % 2] as typeof bots[0]).url, message({ text: `m${n}` }))
  }))
  const saved = replies.findIndex(({ status }) => status === 200)
  // Two processes may get the last ones in another order.
  t.ok(saved >= 7, `the one that came last is saved, ${saved}`)
  t.strictSame(replies.map(({ status }) => status), replies.map((_, n) => n === saved ? 200 : 409))
  t.strictSame(await stored('botas:test/bot/conversations/conversation-1'), { [`m${saved}`]: 50 })
  const ask = async (): Promise<Record<string, number>> => Object.assign({}, ...await Promise.all(bots.map(async ({ url }) => (await fetch(`${url}/asked`)).json())))
  const asked = await ask()
  await wait(100)
  t.strictSame(await ask(), asked)
  for (const [text, tokens] of Object.entries(asked)) if (/^m/.test(text) && text !== `m${saved}`) t.ok(tokens < 50, `${text} stopped after ${tokens} tokens`)
})

t.test('SIGTERM with requests that wait: the turn that holds a place finishes, those that wait get 503 within a second, and the process ends', async (t) => {
  const { bots: [bot, other], stored } = await modelBots(t, 'queue', 150)
  const holding = post(bot.url, message({ text: 'first' }))
  t.equal((await bot.lines.next()).value, 'first')
  const waiting = ['second', 'third'].map((text) => post(bot.url, message({ text })))
  const elsewhere = post(other.url, message({ text: 'elsewhere' }))
  await wait(200)
  const begun = performance.now()
  bot.child.kill('SIGTERM')
  for (const reply of await Promise.all(waiting)) t.match(reply, { status: 503, body: { code: 'FST_BOTAS_STATE_BUSY', message: /closing/ } })
  t.ok(performance.now() - begun < 1000)
  t.equal((await holding).status, 200)
  t.strictSame(await bot.exited, { code: 0, signal: null, errors: '' })
  t.equal((await elsewhere).status, 200)
  t.strictSame(await stored('botas:test/bot/conversations/conversation-1'), { first: 150, elsewhere: 150 })
})
