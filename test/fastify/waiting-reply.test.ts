import { setTimeout as wait } from 'node:timers/promises'
import Fastify from 'fastify'
import t from 'tap'
import botasState from '../../lib/index.js'
import { CONVERSATION_KEY, message } from '../helpers/activities.js'
import { buildFastify, settled } from '../helpers/build-fastify.js'
import { type Handler, flushes, outcomes } from '../helpers/outcomes.js'
import { httpPost, openSocket } from '../helpers/raw-client.js'
import { slowStorage } from '../helpers/slow-storage.js'

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
  const begun: number[] = []
  for (const { answer, stored } of await outcomes(t, { flush: 'onSend' }, (app) => {
    app.post('/', async ({ state }, reply) => {
      state.conversation.set('n', 1)
      reply.send({})
      await Promise.race([reply, wait(2)])
    })
    app.addHook('onClose', async () => { begun.push(app.botasState.stats.flushes) })
  })) {
    t.match(answer, { status: 200, body: '{}' })
    t.strictSame(stored, { n: 1 })
  }
  t.strictSame(begun, [1, 1, 1])
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

t.test('what inherits from a reply says of it what it says without the plugin', async (t) => {
  const said: unknown[] = []
  for (const isPlugin of [false, true]) {
    const app = Fastify()
    t.teardown(() => app.close())
    if (isPlugin) await app.register(botasState, { storage: slowStorage(), flush: 'onSend' })
    app.setErrorHandler((error: Error, _request, reply) => {
      const derived = Object.create(reply)
      said.push([isPlugin, derived.sent, Object.keys(reply).includes('sent')])
      reply.code(500).send({ message: error.message })
    })
    app.post('/', async (request, reply) => {
      if (isPlugin) request.state.conversation.set('n', 1)
      if (isPlugin) reply.send({})
      await wait(2)
      throw new Error('no')
    })
    const { statusCode, json } = await app.inject({ method: 'POST', url: '/', payload: message() })
    t.strictSame([statusCode, json()], [500, { message: 'no' }])
  }
  t.strictSame(said, [[false, false, false], [true, false, false]])
})
