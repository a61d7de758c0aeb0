import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { PassThrough, Readable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { setTimeout as wait } from 'node:timers/promises'
import compress from '@fastify/compress'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import botasState, { type BotasStateOptions } from '../../lib/index.js'
import { CONVERSATION_KEY, message } from '../helpers/activities.js'
import { buildFastify, listen, settled } from '../helpers/build-fastify.js'
import { type Answer, protocols } from '../helpers/client.js'
import { gate, httpPost, openSocket } from '../helpers/raw-client.js'
import type { RecordingStorage } from '../helpers/recording-storage.js'
import { slowStorage } from '../helpers/slow-storage.js'

type Handler = (request: FastifyRequest, reply: FastifyReply) => unknown

interface Outcome {
  answer: Answer
  stored: unknown
  log: string[]
}

/** What one message comes to, over each protocol. */
async function outcomes (
  t: Test, options: BotasStateOptions, routes: (app: FastifyInstance) => void, storage: () => RecordingStorage = slowStorage
): Promise<Outcome[]> {
  return Promise.all(Object.values(protocols).map(async ({ serverOptions, connect }) => {
    const slow = storage()
    const { app, log, port } = await buildFastify(t, { storage: slow, ...options }, routes, serverOptions)
    const client = await connect(t, port)
    const answer = await client.say(message())
    client.leave()
    await app.close()
    t.equal(app.botasState.stats.openTurns, 0)
    return { answer, stored: await slow.stored(CONVERSATION_KEY), log: log.map(({ msg }) => msg) }
  }))
}

const flushes = ['onResponse', 'onSend'] as const

t.test('work that follows the reply belongs to the turn', async (t) => {
  const handler: Handler = async ({ state }, reply) => {
    state.conversation.set('before', true)
    reply.send({ fine: true })
    await wait(20)
    state.conversation.set('after', true)
  }
  for (const flush of flushes) {
    for (const { answer, stored } of await outcomes(t, { flush }, (app) => app.post('/', handler))) {
      t.match(answer, { status: 200, body: '{"fine":true}' })
      t.strictSame(stored, { before: true, after: true })
    }
  }
})

t.test('a handler that throws after its reply stores nothing', async (t) => {
  const handler: Handler = async ({ state }, reply) => {
    state.conversation.set('before', true)
    reply.code(201).header('x-kept', 'no').send({ fine: true })
    await wait(20)
    throw new Error('too late')
  }
  for (const { answer, stored } of await outcomes(t, { flush: 'onResponse' }, (app) => app.post('/', handler))) {
    t.match(answer, { status: 201, body: '{"fine":true}' })
    t.equal(stored, undefined)
  }
  for (const { answer, stored } of await outcomes(t, { flush: 'onSend' }, (app) => app.post('/', handler))) {
    t.equal(answer.status, 500, 'the reply still waited, and is the error\'s')
    t.match(JSON.parse(answer.body), { message: 'too late' })
    t.equal(stored, undefined)
  }
})

t.test('a handler that throws at once after its reply stores nothing', async (t) => {
  for (const handler of [
    (({ state }, reply) => { state.conversation.set('n', 1); reply.send({}); throw new Error('no') }) satisfies Handler,
    (async ({ state }, reply) => { state.conversation.set('n', 1); reply.send({}); throw new Error('no') }) satisfies Handler
  ]) {
    for (const flush of flushes) {
      for (const { answer, stored } of await outcomes(t, { flush }, (app) => app.post('/', handler))) {
        t.equal(answer.status, flush === 'onSend' ? 500 : 200)
        t.equal(stored, undefined)
      }
    }
  }
})

t.test('an error that takes the place of a waiting reply has none of the headers that its hooks had set', async (t) => {
  const handler: Handler = async ({ state }, reply) => {
    state.conversation.set('n', 1)
    reply.header('set-cookie', ['a=1', 'b=2']).send({ text: 'long '.repeat(1000) })
    await wait(10)
    throw new Error('no')
  }
  for (const { answer } of await outcomes(t, { flush: 'onSend' }, (app) => {
    app.addHook('onSend', async (_request, reply, payload) => {
      if (reply.statusCode === 200) reply.header('content-encoding', 'made-up').code(203)
      return payload
    })
    app.post('/', handler)
  })) {
    t.equal(answer.status, 500)
    t.equal(answer.headers['content-encoding'], undefined)
    t.match(JSON.parse(answer.body), { message: 'no' })
  }
})

t.test('an error that takes the place of a waiting reply has what the handler has set since', async (t) => {
  for (const { answer } of await outcomes(t, { flush: 'onSend' }, (app) => app.post('/', async ({ state }, reply) => {
    state.conversation.set('n', 1)
    reply.send({})
    await wait(5)
    reply.code(409).header('x-reason', 'conflict')
    throw new Error('no')
  }))) {
    t.match(answer, { status: 409, headers: { 'x-reason': 'conflict' } })
  }
})

t.test('what reply.code() says after a reply was sent is no status of it', async (t) => {
  const handlers: Record<string, Handler> = {
    sent: async (_request, reply) => { reply.send({}); reply.code(503).send({}) },
    'taken over': async (_request, reply) => { reply.raw.setHeader('content-length', 2); reply.raw.end('{}'); reply.code(503).send({}) }
  }
  for (const [title, handler] of Object.entries(handlers)) {
    for (const flush of flushes) {
      for (const { answer, stored } of await outcomes(t, { flush }, (app) => {
        app.post('/', async (request, reply) => {
          request.state.conversation.set('n', 1)
          return handler(request, reply)
        })
      })) {
        t.match(answer, { status: 200, body: '{}' }, title)
        t.strictSame(stored, { n: 1 })
      }
    }
  }
})

t.test('a client that leaves after the reply of a handler at work changes nothing of that', async (t) => {
  for (const flush of flushes) {
    for (const fails of [false, true]) {
      for (const { serverOptions, connect } of Object.values(protocols)) {
        const storage = slowStorage()
        const reached = gate()
        const goOn = gate()
        const { app, port } = await buildFastify(t, { storage, flush }, (app) => {
          app.post('/', async ({ state }, reply) => {
            state.conversation.set('before', true)
            reply.send({})
            reached.open()
            await goOn.opened
            if (fails) throw new Error('no')
            state.conversation.set('after', true)
          })
        }, serverOptions)
        const client = await connect(t, port)
        client.begin(message())
        await reached.opened
        client.leave()
        await wait(20)
        goOn.open()
        await app.close()
        t.strictSame(await storage.stored(CONVERSATION_KEY), fails ? undefined : { before: true, after: true })
      }
    }
  }
})

t.test('the first reply wins, however long its save takes', async (t) => {
  const handlers: Record<string, Handler> = {
    'the handler returns nothing after it': async (_request, reply) => { reply.code(202).send({ first: true }) },
    'the handler returns something else': async (_request, reply) => {
      reply.code(202).send({ first: true })
      return { second: true }
    },
    'the handler sends something else': async (_request, reply) => {
      reply.code(202).send({ first: true })
      reply.send({ second: true })
    },
    'the handler sends something else later': async (_request, reply) => {
      reply.code(202).send({ first: true })
      await wait(5)
      if (reply.sent) reply.send({ second: true })
    },
    'a handler without promise sends something else': (_request, reply) => {
      reply.code(202).send({ first: true })
      setTimeout(() => reply.send({ second: true }), 2)
    },
    'the handler awaits it': async (_request, reply) => {
      reply.code(202).send({ first: true })
      await reply
    },
    'the handler returns it': async (_request, reply) => {
      reply.code(202).send({ first: true })
      return reply
    }
  }
  for (const [title, handler] of Object.entries(handlers)) {
    t.test(title, async (t) => {
      for (const flush of flushes) {
        for (const { answer, stored } of await outcomes(t, { flush }, (app) => app.post('/', (request, reply) => {
          request.state.conversation.set('n', 1)
          return handler(request, reply)
        }))) {
          t.match(answer, { status: 202, body: '{"first":true}' })
          t.strictSame(stored, { n: 1 })
        }
      }
    })
  }
})

t.test('a second reply that is on its way does not overtake the first one, which is being saved', async (t) => {
  for (const { answer, stored } of await outcomes(t, { flush: 'onSend' }, (app) => {
    app.addHook('onSend', async (_request, _reply, payload) => {
      await wait(2)
      return payload
    })
    app.post('/', ({ state }, reply) => {
      state.conversation.set('n', 1)
      reply.send({ first: true })
      setTimeout(() => reply.send({ second: true }), 1)
    })
  })) {
    t.match(answer, { status: 200, body: '{"first":true}' })
    t.strictSame(stored, { n: 1 })
  }
})

t.test('a handler that does not wait for its reply to the end does not save twice', async (t) => {
  for (const { answer, stored } of await outcomes(t, { flush: 'onSend' }, (app) => app.post('/', async ({ state }, reply) => {
    state.conversation.set('n', 1)
    reply.send({})
    await Promise.race([reply, wait(2)])
  }))) {
    t.match(answer, { status: 200, body: '{}' })
    t.strictSame(stored, { n: 1 })
  }
})

t.test('a handler that throws while the body of its Response is looked at stores nothing, and the source is stopped', async (t) => {
  let cancelled = 0
  for (const source of [
    { pull: () => new Promise<void>(() => {}), cancel () { cancelled++ } },
    { pull () { throw new Error('no body') } }
  ]) {
    for (const { answer, stored } of await outcomes(t, { flush: 'onSend' }, (app) => app.post('/', async ({ state }, reply) => {
      state.conversation.set('n', 1)
      reply.send(new Response(new ReadableStream(source, { highWaterMark: 0 })))
      throw new Error('no')
    }))) {
      t.equal(answer.status, 500)
      t.equal(stored, undefined)
    }
  }
  await settled(() => cancelled === 3)
})

t.test('what a handler changes after it awaited its reply is refused with flush onSend', async (t) => {
  const refused: unknown[] = []
  for (const { answer, stored } of await outcomes(t, { flush: 'onSend' }, (app) => app.post('/', async ({ state }, reply) => {
    state.conversation.set('before', true)
    reply.send({})
    await reply
    try {
      state.conversation.set('after', true)
    } catch (error) {
      refused.push(error)
    }
  }))) {
    t.equal(answer.status, 200)
    t.strictSame(stored, { before: true })
  }
  t.match(refused, [{ code: 'FST_BOTAS_STATE_TURN_ENDED' }, { code: 'FST_BOTAS_STATE_TURN_ENDED' }, { code: 'FST_BOTAS_STATE_TURN_ENDED' }])
})

t.test('a save that fails is a 500 also where the handler did not return its reply', async (t) => {
  const failing = () => {
    const storage = slowStorage()
    storage.failures.update = new Error('disk full')
    return storage
  }
  for (const { answer } of await outcomes(t, { flush: 'onSend' }, (app) => app.post('/', async ({ state }, reply) => {
    state.conversation.set('n', 1)
    reply.send({ hello: 1 })
  }), failing)) {
    t.equal(answer.status, 500)
    t.match(JSON.parse(answer.body), { code: 'FST_BOTAS_STATE_SAVE_FAILED' })
  }
})

t.test('where a hook has answered the handler does not run', async (t) => {
  for (const flush of flushes) {
    for (const { answer, stored } of await outcomes(t, { flush }, (app) => {
      app.addHook('preHandler', async ({ state }, reply) => {
        state.conversation.set('seen', true)
        reply.code(403).send({ forbidden: true })
      })
      app.post('/', async () => t.fail('the handler must not run'))
    })) {
      t.match(answer, { status: 403, body: '{"forbidden":true}' })
      t.strictSame(stored, { seen: true }, 'a 4xx is a success')
    }
  }
})

t.test('a hook may take over the reply in any phase', async (t) => {
  for (const phase of ['preValidation', 'preHandler', 'preSerialization', 'onSend'] as const) {
    for (const flush of flushes) {
      const before = Date.now()
      for (const { answer, stored } of await outcomes(t, { flush }, (app) => {
        app.addHook('preValidation', async ({ state }) => { state.conversation.set('n', 1) })
        app.addHook(phase as 'preHandler', async (_request, reply) => {
          reply.hijack()
          setTimeout(() => {
            reply.raw.setHeader('content-length', 5)
            reply.raw.end('taken')
          }, 5)
          await new Promise(() => {})
        })
        app.post('/', async () => ({}))
      })) {
        t.match(answer, { status: 200, body: 'taken' }, phase)
        t.strictSame(stored, { n: 1 })
      }
      t.ok(Date.now() - before < 5000, 'and closing the server does not wait for it')
    }
  }
})

t.test('a hook that takes over the reply and lets Fastify go on does not make the turn fail', async (t) => {
  for (const flush of flushes) {
    const storage = slowStorage()
    const { app, port } = await buildFastify(t, { storage, flush }, (app) => {
      app.addHook('onSend', async (_request, reply) => {
        reply.hijack()
        reply.raw.setHeader('content-length', 5)
        reply.raw.end('taken')
      })
      app.post('/', async ({ state }) => {
        state.conversation.set('n', 1)
        return {}
      })
    })
    t.match(await (await protocols['HTTP/1.1'].connect(t, port)).say(message()), { status: 200, body: 'taken' })
    await app.close()
    t.strictSame(await storage.stored(CONVERSATION_KEY), { n: 1 })
  }
})

t.test('a client that leaves while a hook is at work', async (t) => {
  const endings: Record<string, [hook: (goOn: Promise<void>, reply: FastifyReply) => Promise<void>, stored: unknown]> = {
    'does not lose the turn, however long the hook takes': [(goOn) => goOn, { kept: true }],
    'does not save a turn whose hook throws in the end': [async (goOn) => { await goOn; throw new Error('no') }, undefined],
    'does not lose the turn of a hook that ends the response by itself': [async (goOn, reply) => {
      await goOn
      reply.raw.end('nobody hears it')
      await new Promise(() => {})
    }, { kept: true }],
    'does not save a turn whose hook never ends': [() => new Promise(() => {}), undefined]
  }
  for (const [title, [hook, expected]] of Object.entries(endings)) {
    t.test(title, async (t) => {
      for (const { serverOptions, connect } of Object.values(protocols)) {
        const storage = slowStorage()
        const reached = gate()
        const goOn = gate()
        const { app, port } = await buildFastify(t, { storage, flushTimeout: 50 }, (app) => {
          app.addHook('preHandler', async ({ state }, reply) => {
            state.conversation.set('kept', true)
            reached.open()
            await hook(goOn.opened, reply)
          })
          app.post('/', async () => {})
        }, serverOptions)
        const client = await connect(t, port)
        client.begin(message())
        await reached.opened
        client.leave()
        await wait(120)
        t.equal(storage.count('update'), 0)
        goOn.open()
        await wait(30)
        await app.close()
        t.strictSame(await storage.stored(CONVERSATION_KEY), expected)
      }
    })
  }
})

t.test('a reply that a hook compresses is a whole reply', async (t) => {
  const text = 'long '.repeat(10_000)
  const app = Fastify({ forceCloseConnections: true })
  t.teardown(() => app.close())
  const storage = slowStorage()
  await app.register(compress)
  await app.register(botasState, { storage, flush: 'onSend' })
  app.post('/', async ({ state }) => {
    state.conversation.set('n', 1)
    return { text }
  })
  const { url } = await listen(app)
  const say = () => fetch(url, {
    method: 'POST', headers: { 'content-type': 'application/json', 'accept-encoding': 'gzip' }, body: JSON.stringify(message())
  })
  const response = await say()
  t.equal(response.headers.get('content-encoding'), 'gzip')
  t.strictSame(await storage.stored(CONVERSATION_KEY), { n: 1 }, 'it is stored before the reply leaves')
  t.strictSame(await response.json(), { text })

  storage.failures.update = new Error('disk full')
  await storage.store(CONVERSATION_KEY, {})
  const failed = await say()
  t.equal(failed.status, 500)
  t.match(await failed.json(), { code: 'FST_BOTAS_STATE_SAVE_FAILED' }, 'and the error can be read')
})

t.test('a fetch Response of a text is a whole reply, one of a stream is not', async (t) => {
  const replies: Record<string, [reply: () => Response, isWhole: boolean]> = {
    'Response.json': [() => Response.json({ text: 'long '.repeat(10_000) }), true],
    text: [() => new Response('text', { status: 201, headers: { 'x-made': 'here' } }), true],
    'a form': [() => new Response(new URLSearchParams({ a: '1' })), true],
    'nothing at all': [() => new Response(null, { status: 202 }), true],
    'a stream': [() => new Response(Readable.toWeb(Readable.from(slowly())) as ReadableStream), false],
    'a stream that never pauses': [() => new Response(endless()), false]
  }
  for (const [title, [reply, isWhole]] of Object.entries(replies)) {
    const bare = Fastify({ forceCloseConnections: true })
    t.teardown(() => bare.close())
    bare.post('/', async () => reply())
    const { port } = await listen(bare)
    const expected = await (await (protocols['HTTP/1.1']).connect(t, port)).say(message())
    for (const fails of [false, true]) {
      const storage = slowStorage()
      if (fails) storage.failures.update = new Error('disk full')
      const { port } = await buildFastify(t, { storage, flush: 'onSend' }, (app) => app.post('/', async ({ state }) => {
        state.conversation.set('n', 1)
        return reply()
      }))
      const answer = await (await protocols['HTTP/1.1'].connect(t, port)).say(message())
      if (fails && isWhole) {
        t.equal(answer.status, 500, title)
      } else {
        t.strictSame({ ...answer, headers: { ...answer.headers, date: '' } }, { ...expected, headers: { ...expected.headers, date: '' } }, title)
      }
      if (isWhole && !fails) t.strictSame(await storage.stored(CONVERSATION_KEY), { n: 1 })
    }
  }
})

async function * slowly () {
  yield 'a'
  await wait(5)
  yield 'b'
}

/** As many chunks as one likes, each at once. */
function endless (): ReadableStream {
  let left = 3000
  return new ReadableStream({
    pull (controller) {
      if (left-- > 0) controller.enqueue(Buffer.from('x'))
      else controller.close()
    }
  })
}

t.test('a fetch Response that fails at once, or whose body was consumed, is a 500 and stores nothing', async (t) => {
  const consumed = async () => {
    const response = new Response('text')
    await response.text()
    return response
  }
  const failing = async () => new Response(new ReadableStream({ pull () { throw new Error('no') } }))
  for (const reply of [consumed, failing]) {
    for (const flush of flushes) {
      for (const { answer, stored } of await outcomes(t, { flush }, (app) => app.post('/', async ({ state }) => {
        state.conversation.set('n', 1)
        return reply()
      }))) {
        t.equal(answer.status, 500)
        t.equal(stored, undefined)
      }
    }
  }
})

t.test('a reply that Fastify cannot write is a 500 and stores nothing', async (t) => {
  const replies: Handler[] = [
    async (_request, reply) => reply.header('x-name', '🤖').send({}),
    async (_request, reply) => reply.header('x name', 'a').send({}),
    async (_request, reply) => reply.type('text/plain').send(7 as unknown as string),
    async (_request, reply) => reply.header('trailer', 'x-a').send('a'),
    async () => Response.error(),
    async () => ({ [Symbol.toStringTag]: 'Response', status: 200, headers: { forEach () {}, [Symbol.iterator] () { throw new Error('no') } }, body: null })
  ]
  for (const reply of replies) {
    for (const flush of flushes) {
      const storage = slowStorage()
      const { app, port } = await buildFastify(t, { storage, flush }, (app) => app.post('/', (request, response) => {
        request.state.conversation.set('n', 1)
        return reply(request, response)
      }))
      t.equal((await (await protocols['HTTP/1.1'].connect(t, port)).say(message())).status, 500)
      await app.close()
      t.equal(await storage.stored(CONVERSATION_KEY), undefined)
    }
  }
})

t.test('routes of the same tick as a registration that nobody awaits', async (t) => {
  const endings: Record<string, [handler: (request: FastifyRequest, reply: FastifyReply, reached: () => void) => unknown, leaves: boolean, saved: boolean]> = {
    'do not save what a handler throws after it took over the reply': [async (_request, reply) => {
      reply.hijack()
      setTimeout(() => reply.raw.end('{}'), 10)
      throw new Error('no')
    }, false, false],
    'save what a handler changes after it took over the reply': [async ({ state }, reply) => {
      state.conversation.delete('kept')
      reply.hijack()
      reply.raw.end('{}')
      await wait(10)
      state.conversation.set('kept', true)
    }, false, true],
    'save what a handler changes after its client left': [async ({ state }, _reply, reached) => {
      state.conversation.delete('kept')
      reached()
      await wait(30)
      state.conversation.set('kept', true)
    }, true, true]
  }
  for (const [title, [handler, leaves, saved]] of Object.entries(endings)) {
    t.test(title, async (t) => {
      const storage = slowStorage()
      const reached = gate()
      const app = Fastify({ forceCloseConnections: true })
      t.teardown(() => app.close())
      app.register(botasState, { storage, flush: 'onSend' })
      app.addHook('preHandler', async ({ state }) => { state.conversation.set('kept', true) })
      app.post('/', (request, reply) => handler(request, reply, reached.open))
      const { port } = await listen(app)
      const client = await protocols['HTTP/1.1'].connect(t, port)
      if (leaves) {
        client.begin(message())
        await reached.opened
        client.leave()
        await wait(50)
      } else {
        await client.say(message())
      }
      await app.close()
      t.strictSame(await storage.stored(CONVERSATION_KEY), saved ? { kept: true } : undefined)
    })
  }
})

t.test('an onSend hook that fails comes in time, wherever it was added', async (t) => {
  const fails = async (_request: FastifyRequest, reply: FastifyReply) => { if (reply.statusCode < 500) throw new Error('no') }
  for (const place of ['before', 'after', 'by a later plugin']) {
    const storage = slowStorage()
    const app = Fastify({ forceCloseConnections: true })
    t.teardown(() => app.close())
    if (place === 'before') app.addHook('onSend', fails)
    app.register(botasState, { storage, flush: 'onSend' })
    if (place === 'after') app.addHook('onSend', fails)
    if (place === 'by a later plugin') {
      app.register(Object.assign(async (app: FastifyInstance) => {
        app.addHook('onRoute', (route) => { route.onSend = [route.onSend ?? []].flat().concat(fails) })
      }, { [Symbol.for('skip-override')]: true }))
    }
    app.register(async (app) => {
      app.post('/', async ({ state }) => { state.conversation.set('n', 1) })
    })
    const { port } = await listen(app)
    t.equal((await (await protocols['HTTP/1.1'].connect(t, port)).say(message())).status, 500)
    await app.close()
    t.equal(await storage.stored(CONVERSATION_KEY), undefined, place)
  }
})

t.test('a handler of a 404 that a route calls is part of the turn', async (t) => {
  for (const fails of [false, true]) {
    const storage = slowStorage()
    const { app, port } = await buildFastify(t, { storage }, (app) => {
      app.setNotFoundHandler(async ({ state }, reply) => {
        reply.code(404).send({})
        await wait(10)
        if (fails) throw new Error('no')
        state.conversation.set('after', true)
      })
      app.post('/', async ({ state }, reply) => {
        state.conversation.set('before', true)
        reply.callNotFound()
      })
    })
    t.equal((await (await protocols['HTTP/1.1'].connect(t, port)).say(message())).status, 404)
    await app.close()
    t.strictSame(await storage.stored(CONVERSATION_KEY), fails ? undefined : { before: true, after: true })
  }
})

t.test('a waiting reply is ended by the timeout of its handler', async (t) => {
  const storage = slowStorage()
  let signal: AbortSignal | undefined
  const identify = () => ({ channelId: 'test', botId: 'bot', conversationId: 'conversation-1' })
  const { app, url } = await buildFastify(t, { storage, identify, flush: 'onSend' }, (app) => {
    app.get('/', { handlerTimeout: 40 }, async ({ state }, reply) => {
      signal = state.signal
      state.conversation.set('n', 1)
      reply.header('x-first', 'yes').send({ fine: true })
      await wait(200)
    })
  })
  const response = await fetch(url)
  t.equal(response.status, 503)
  t.match(await response.json(), { code: 'FST_ERR_HANDLER_TIMEOUT' })
  t.match(signal?.reason, { code: 'FST_ERR_HANDLER_TIMEOUT' })
  await app.close()
  t.equal(await storage.stored(CONVERSATION_KEY), undefined)
})

t.test('a timeout that Fastify has cleared, because the body was read, ends nothing', async (t) => {
  const [answer] = (await outcomes(t, { flush: 'onSend' }, (app) => {
    app.post('/', { handlerTimeout: 20 }, async ({ state }, reply) => {
      state.conversation.set('n', 1)
      reply.send('first')
      await wait(60)
      if (!reply.sent) reply.code(504).send('second')
    })
  }))
  t.match(answer, { answer: { status: 200, body: 'first' }, stored: { n: 1 } }, 'over HTTP/1.1')
})

t.test('a handler that waits until its reply has left does not wait for ever', async (t) => {
  const ways: Record<string, Handler> = {
    'for an event of the response': async (_request, reply) => { await once(reply.raw, 'finish') },
    'for the end of the response': async (_request, reply) => { await finished(reply.raw) },
    'by looking at it': async (_request, reply) => { while (!reply.raw.writableEnded) await wait(5) }
  }
  for (const [title, way] of Object.entries(ways)) {
    for (const { answer, stored } of await outcomes(t, { flush: 'onSend', flushTimeout: 200 }, (app) => app.post('/', async (request, reply) => {
      request.state.conversation.set('before', true)
      reply.send('sent')
      await way(request, reply)
      request.state.conversation.set('after', true)
    }))) {
      t.match(answer, { status: 200, body: 'sent' }, title)
      t.strictSame(stored, { before: true, after: true }, 'and nothing is lost')
    }
  }
})

t.test('a handler that calls that of a 404 and awaits its reply, or goes on, is waited for rightly', async (t) => {
  for (const goesOn of [false, true]) {
    for (const { answer, stored } of await outcomes(t, { flush: 'onSend' }, (app) => {
      app.addHook('preHandler', async () => { await wait(3) })
      app.setNotFoundHandler(async (_request, reply) => {
        reply.code(404).send('nothing here')
        return reply
      })
      app.post('/', async ({ state }, reply) => {
        state.conversation.set('before', true)
        if (!goesOn) return reply.callNotFound()
        reply.callNotFound()
        await wait(30)
        state.conversation.set('after', true)
      })
    })) {
      t.match(answer, { status: 404, body: 'nothing here' })
      t.strictSame(stored, goesOn ? { before: true, after: true } : { before: true })
    }
  }
})

t.test('a reply that waits stays as it was', async (t) => {
  const buffer = Buffer.from('first')
  for (const { answer } of await outcomes(t, { flush: 'onSend' }, (app) => app.post('/', async ({ state }, reply) => {
    state.conversation.set('n', 1)
    reply.raw.setHeader('X-Raw', 'a')
    reply.header('x-count', '1').send(Buffer.from(buffer))
    await wait(5)
    reply.header('x-count', '2').header('x-late', 'yes').code(500)
  }))) {
    t.match(answer, { status: 200, body: 'first', headers: { 'x-raw': 'a', 'x-count': '1' } })
    t.equal(answer.headers['x-late'], undefined)
  }
  const { url } = await buildFastify(t, { flush: 'onSend' }, (app) => app.post('/', async ({ state }, reply) => {
    state.conversation.set('n', 1)
    reply.raw.setHeader('X-Raw-Name', 'a')
    const pooled = Buffer.from('first')
    reply.send(pooled)
    await wait(5)
    pooled.fill('x')
  }))
  const raw = await rawAnswer(url)
  t.match(raw, /\r\nX-Raw-Name: a\r\n/)
  t.match(raw, /first$/)
})

/** An answer with the names of its headers as they came. */
async function rawAnswer (url: string): Promise<string> {
  const socket = await openSocket(Number(new URL(url).port))
  socket.write(httpPost('/', message(), 'close'))
  let answer = ''
  for await (const chunk of socket) answer += chunk
  return answer
}

t.test('an HTTP/2 client whose connection breaks does not lose the turn', async (t) => {
  for (const flush of flushes) {
    const storage = slowStorage()
    const reached = gate()
    const { app, port } = await buildFastify(t, { storage, flush }, (app) => app.post('/', async ({ state }) => {
      reached.open()
      await wait(40)
      state.conversation.set('kept', true)
      return {}
    }), { http2: true } as object)
    const socket = await openSocket(port)
    const session = connectHttp2(`http://127.0.0.1:${port}`, { createConnection: () => socket })
    session.on('error', () => {})
    const stream = session.request({ ':path': '/', ':method': 'POST', 'content-type': 'application/json' })
    stream.on('error', () => {})
    stream.end(JSON.stringify(message()))
    await reached.opened
    socket.resetAndDestroy()
    await settled(async () => await storage.stored(CONVERSATION_KEY) !== undefined)
    await app.close()
    t.strictSame(await storage.stored(CONVERSATION_KEY), { kept: true })
  }
})

t.test('a Response of another make whose Node stream breaks off stores nothing', async (t) => {
  for (const flush of flushes) {
    const storage = slowStorage()
    const { app, port } = await buildFastify(t, { storage, flush }, (app) => app.post('/', async ({ state }) => {
      state.conversation.set('n', 1)
      const body = new PassThrough()
      body.write('{')
      setTimeout(() => body.destroy(new Error('no')), 20)
      return { [Symbol.toStringTag]: 'Response', status: 200, headers: new Headers(), body }
    }))
    await (await protocols['HTTP/1.1'].connect(t, port)).say(message()).catch(() => {})
    await app.close()
    t.equal(await storage.stored(CONVERSATION_KEY), undefined)
  }
})

t.test('an error is an error, whatever it is', async (t) => {
  const errors: unknown[] = [null, undefined, Object.assign(new Error('no'), { code: 'ERR_HTTP_HEADERS_SENT', statusCode: 400 })]
  for (const error of errors) {
    const seen: unknown[] = []
    for (const { answer, stored } of await outcomes(t, {}, (app) => {
      app.addHook('onError', async (_request, _reply, error) => { seen.push(error) })
      app.addHook('preHandler', async ({ state }) => { state.conversation.set('n', 1) })
      app.post('/', async () => { throw error })
    })) {
      t.not(answer.status, 200)
      t.equal(stored, undefined)
    }
    t.equal(seen.length, 3, 'and the hooks of others run')
    for (const { stored } of await outcomes(t, {}, (app) => {
      app.addHook('preHandler', async ({ state }) => {
        state.conversation.set('n', 1)
        throw error
      })
      app.post('/', async () => ({}))
    })) t.equal(stored, undefined)
  }
})

t.test('a timeout that passes while the turn is saved does not undo the reply', async (t) => {
  const storage = slowStorage()
  storage.latency.update = 100
  const identify = () => ({ channelId: 'test', botId: 'bot', conversationId: 'conversation-1' })
  const { app, url } = await buildFastify(t, { storage, identify, flush: 'onSend' }, (app) => {
    app.get('/', { handlerTimeout: 60 }, async ({ state }) => {
      state.conversation.set('n', 1)
      return { fine: true }
    })
  })
  t.equal((await fetch(url)).status, 200)
  await app.close()
  t.strictSame(await storage.stored(CONVERSATION_KEY), { n: 1 })
})

t.test('nothing of a request stays in memory once its turn is over', async (t) => {
  const { setFlagsFromString } = await import('node:v8')
  const { runInNewContext } = await import('node:vm')
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const handlers: Handler[] = [
    async (_request, reply) => { await wait(5); return reply.send({}) },
    (_request, reply) => { setTimeout(() => reply.send({}), 20) },
    async (_request, reply) => { setTimeout(() => reply.send({}), 20); await reply }
  ]
  for (const handler of handlers) {
    for (const flush of flushes) {
      const bodies: Array<WeakRef<object>> = []
      let reached = gate()
      const { app, port } = await buildFastify(t, { storage: slowStorage(), flush }, (app) => {
        app.post('/', (request, reply) => {
          bodies.push(new WeakRef(request.body as object))
          reached.open()
          return handler(request, reply)
        })
      })
      for (let turn = 0; turn < 10; turn++) {
        reached = gate()
        const client = await protocols['HTTP/1.1'].connect(t, port)
        client.begin(message({ text: 'x'.repeat(100_000) }))
        await reached.opened
        client.leave()
      }
      await settled(() => app.botasState.stats.openTurns === 0)
      await settled(() => {
        collect()
        return bodies.filter((body) => body.deref() !== undefined).length <= 1
      })
      t.equal(bodies.length, 10)
    }
  }
})
