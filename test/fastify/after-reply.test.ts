import { once } from 'node:events'
import { finished } from 'node:stream/promises'
import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import { CONVERSATION_KEY, message } from '../helpers/activities.js'
import { buildFastify } from '../helpers/build-fastify.js'
import { protocols } from '../helpers/client.js'
import { type Handler, flushes, outcomes } from '../helpers/outcomes.js'
import { slowStorage } from '../helpers/slow-storage.js'

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
