import { Readable } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import type { FastifyReply, FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import { type Storage, FileStorage, MemoryStorage } from '../../lib/index.js'
import { RedisStorage } from '../../lib/storage/redis/redis-storage.js'
import { message } from '../helpers/activities.js'
import { buildFastify, settled } from '../helpers/build-fastify.js'
import { protocols } from '../helpers/client.js'
import { RecordingStorage } from '../helpers/recording-storage.js'
import { drivenStorages } from '../helpers/overlap-storages.js'
import { startRedis } from '../helpers/redis-server.js'
import { slowStorage } from '../helpers/slow-storage.js'

t.test('a client that saw the reply finds what its turn wrote', { jobs: 4 }, async (t) => {
  const latencies = [{ update: 2 }, { read: 1, update: 3 }]
  const settings = Object.entries(protocols).flatMap((protocol) => latencies.map((latency) => [...protocol, latency] as const))
  for (const [name, { serverOptions, connect }, latency] of settings) {
    t.test(`${name}, ${JSON.stringify(latency)}`, { buffered: true }, async (t) => {
      const storage = new RecordingStorage()
      Object.assign(storage.latency, latency)
      const { port } = await buildFastify(t, { storage }, (app) => {
        // Another plugin's hook, which must not hold up the save.
        app.addHook('onResponse', () => wait(10))
        app.post('/', async ({ state }) => ({ n: state.conversation.update<number>('n', (n = 0) => n + 1) }))
      }, serverOptions)
      const client = await connect(t, port)
      for (let n = 1; n <= 1000; n++) {
        const reply = JSON.parse((await client.say(message())).body)
        if (reply.n !== n) return t.equal(reply.n, n)
      }
      t.pass('1,000 turns, each with its predecessor\'s write')
    })
  }
})

const TURNS = 15

type Handler = (request: FastifyRequest, reply: FastifyReply) => unknown

/** A counter that no update repairs: a turn that does not find its predecessor's is seen in the end. */
function count ({ state }: FastifyRequest): void {
  state.conversation.set('n', (state.conversation.get<number>('n') ?? 0) + 1)
}

const ways: Record<string, Handler> = {
  'replies from a timer': (request, reply) => {
    setTimeout(() => {
      count(request)
      reply.send({})
    }, 2)
  },
  'goes on after its reply': async (request, reply) => {
    reply.send({})
    await wait(3)
    count(request)
  },
  'streams its reply': async (request) => {
    count(request)
    return Readable.from(['{', '}'])
  },
  'streams its reply and goes on': async (request, reply) => {
    reply.send(Readable.from(['{', '}']))
    await wait(5)
    count(request)
  },
  'takes over the reply': (request, reply) => {
    reply.hijack()
    count(request)
    setTimeout(() => reply.raw.end('{}'), 2)
  },
  'takes over the reply without saying so': (request, reply) => {
    count(request)
    setTimeout(() => reply.raw.end('{}'), 2)
  },
  'goes on after it took over and ended the reply': async (request, reply) => {
    reply.hijack()
    reply.raw.end('{}')
    await wait(3)
    count(request)
  },
  'streams a reply of a known length whose end comes late': async (request, reply) => {
    count(request)
    return reply.header('content-length', 2).send(Readable.from((async function * () {
      yield '{}'
      await wait(5)
    })()))
  },
  'takes over a reply of a known length, and ends it late': async (request, reply) => {
    reply.hijack()
    reply.raw.writeHead(200, { 'content-length': 2 }).write('{}')
    await wait(5)
    count(request)
    reply.raw.end()
  },
  'keeps the turn open for work that goes on': (request, reply) => {
    request.state.waitUntil(wait(3).then(() => count(request)))
    reply.send({})
  }
}

const redis = await startRedis(t)
let prefixes = 0

const storages: Record<string, (t: Test) => Storage | Promise<Storage>> = {
  memory: () => new MemoryStorage(),
  files: (t) => new FileStorage(t.testdir()),
  'a slow storage': () => slowStorage(3),
  Redis: () => new RedisStorage(redis.url, { keyPrefix: `${prefixes++}:` }),
  ...Object.fromEntries(Object.entries(drivenStorages).map(([name, prepare]) => [name, async (t: Test) => (await prepare(t))()]))
}

for (const [protocol, { serverOptions, connect }] of Object.entries(protocols)) {
  for (const [name, open] of Object.entries(storages)) {
    t.test(`${protocol}, ${name}: the next message finds what the last turn wrote when its handler`, async (t) => {
      t.jobs = 4
      for (const [way, handler] of Object.entries(ways)) {
        t.test(way, async (t) => {
          const storage = await open(t)
          const { app, port } = await buildFastify(t, { storage }, (app) => app.post('/', handler), serverOptions)
          const client = await connect(t, port)
          for (let turn = 0; turn < TURNS; turn++) await client.say(message({ user: `user-${turn % 3}` }))
          client.leave()
          await settled(() => app.botasState.stats.openTurns === 0)
          t.match((await storage.read(['test/bot/conversations/conversation-1'])), { 'test/bot/conversations/conversation-1': { n: TURNS } })
          await app.close()
        })
      }
    })
  }
}

t.test('a message waits half of loadTimeout for a handler that goes on after its reply, and then runs beside it', async (t) => {
  const storage = slowStorage(70)
  const { app, url } = await buildFastify(t, { storage, loadTimeout: 100 }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ state, body }, reply) => {
      reply.send({})
      if (body.text === 'long') await wait(300)
      state.conversation.set(body.text, true)
    })
  })
  const say = async (text: string) => (await fetch(url, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(message({ text }))
  })).status
  t.equal(await say('long'), 200)
  const before = performance.now()
  t.equal(await say('short'), 200)
  t.ok(performance.now() - before > 100, 'it waits, and loads then with all the time that a load has')
  await app.close()
  t.match(app.botasState.stats, { openTurns: 0, loadFailures: 0, flushes: 2 })
})

t.test('a job that a handler runs after its reply does not wait for that handler', async (t) => {
  const { app, url } = await buildFastify(t, {}, (app) => {
    app.post('/', async ({ state }, reply) => {
      reply.send({})
      await app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: 'conversation-1' }, (state) => {
        state.conversation.set('job', true)
      })
      state.conversation.set('turn', true)
    })
  })
  const before = Date.now()
  await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(message()) })
  await app.close()
  t.ok(Date.now() - before < 2000)
  t.strictSame(await app.botasState.storage.read(['test/bot/conversations/conversation-1']), {
    'test/bot/conversations/conversation-1': { job: true, turn: true }
  })
})
