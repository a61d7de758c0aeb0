import compress from '@fastify/compress'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import t from 'tap'
import botasState from '../../lib/index.js'
import { CONVERSATION_KEY, message } from '../helpers/activities.js'
import { buildFastify, listen, post } from '../helpers/build-fastify.js'
import { protocols } from '../helpers/client.js'
import { flushes, outcomes } from '../helpers/outcomes.js'
import { RecordingStorage } from '../helpers/recording-storage.js'
import { slowStorage } from '../helpers/slow-storage.js'

t.test('an earlier hook that fails or answers leaves the storage alone', async (t) => {
  const storage = new RecordingStorage()
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('onRequest', async ({ headers, state }, reply) => {
    state.temp.set('seen', true)
    if (headers['x-do'] === 'throw') throw new Error('no')
    return reply.code(401).send({})
  })
  app.setErrorHandler(async (_error, { state }) => {
    t.equal(state.temp.get('seen'), true)
    t.match(t.throws(() => state.conversation.get('n')), { code: 'FST_BOTAS_STATE_NOT_LOADED' })
    return {}
  })
  await app.register(botasState, { storage })
  app.post('/', async () => t.fail('the handler must not run'))
  t.equal((await app.inject({ method: 'POST', url: '/', payload: message() })).statusCode, 401)
  t.equal((await app.inject({ method: 'POST', url: '/', payload: message(), headers: { 'x-do': 'throw' } })).statusCode, 200)
  t.strictSame(storage.calls, [])
})

t.test('a body that the route\'s schema rejects is not saved', async (t) => {
  const storage = new RecordingStorage()
  const { app, url } = await buildFastify(t, { storage }, (app) => {
    app.addHook('preValidation', async ({ state }) => { state.conversation.set('n', 1) })
    app.post('/', { schema: { body: { type: 'object', required: ['text'] } } }, async () => ({}))
  })
  t.match((await post(url, message())).body, { code: 'FST_ERR_VALIDATION' })
  t.equal((await post(url, message({ text: 'hi' }))).status, 200)
  await app.close()
  t.equal(storage.count('update'), 1)
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
