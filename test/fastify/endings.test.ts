import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import { CONVERSATION_KEY, message } from '../helpers/activities.js'
import { buildFastify, post } from '../helpers/build-fastify.js'
import { protocols } from '../helpers/client.js'
import { type Ending, tryEndings } from '../helpers/endings.js'
import { type Handler, flushes, outcomes } from '../helpers/outcomes.js'
import { slowStorage } from '../helpers/slow-storage.js'

const endings: Ending[] = [
  { title: 'a handler that returns is saved', handler: async () => ({}), status: 200, saved: true },
  { title: 'a handler that returns nothing is saved', handler: async () => {}, status: 200, saved: true },
  { title: 'a handler that replies from a callback is saved', handler: (_request, reply) => { setImmediate(() => reply.send({})) }, status: 200, saved: true },
  { title: 'a handler that throws is not saved', handler: async () => { throw new Error('no') }, status: 500, saved: false },
  { title: 'a handler that throws before its first await is not saved', handler: () => { throw new Error('no') }, status: 500, saved: false },
  { title: 'a handler that throws a client error is not saved', handler: async () => { throw Object.assign(new Error('no'), { statusCode: 400 }) }, status: 400, saved: false },
  { title: 'a handler that sends an error is not saved', handler: (_request, reply) => reply.send(new Error('no')), status: 500, saved: false },
  { title: 'an explicit 4xx is saved', handler: async (_request, reply) => reply.code(422).send({}), status: 422, saved: true },
  { title: 'an explicit 5xx is not saved', handler: async (_request, reply) => reply.code(503).send({}), status: 503, saved: false },
  {
    title: 'an error handler that answers 200 does not make a success of a failed turn',
    handler: async () => { throw new Error('no') },
    server: (app) => app.setErrorHandler(async () => ({ fine: true })),
    status: 200,
    saved: false
  },
  {
    title: 'a later hook that throws makes the turn fail',
    handler: async () => ({}),
    server: (app) => app.addHook('preHandler', async () => { throw new Error('no') }),
    status: 500,
    saved: false
  },
  {
    title: 'a later hook that answers by itself ends the turn',
    handler: async () => ({}),
    server: (app) => app.addHook('preHandler', async (_request, reply) => reply.code(429).send({})),
    status: 429,
    saved: true,
    changesNothing: true
  },
  {
    title: 'a later onSend hook that throws makes the turn fail',
    handler: async () => ({}),
    server: (app) => app.addHook('onSend', async (_request, reply) => { if (reply.statusCode < 500) throw new Error('no') }),
    status: 500,
    saved: false
  },
  {
    title: 'a response that its schema cannot serialize makes the turn fail',
    handler: async () => ({ get name () { throw new Error('no') } }),
    status: 500,
    saved: false
  },
  {
    title: 'a hijacked reply is saved when it has been sent',
    handler: async (_request, reply) => {
      reply.hijack()
      await wait(10)
      reply.raw.end('{}')
    },
    status: 200,
    saved: true
  },
  {
    title: 'a hijacked reply with a 5xx is not saved',
    handler: async (_request, reply) => {
      reply.hijack()
      reply.raw.writeHead(500).end('{}')
    },
    status: 500,
    saved: false
  },
  {
    title: 'a handler that throws after it hijacked the reply is not saved',
    handler: async (_request, reply) => {
      reply.hijack()
      setTimeout(() => reply.raw.end('{}'), 20)
      throw new Error('no')
    },
    status: 200,
    saved: false
  },
  {
    title: 'a handler that returns a value after it sent the raw reply is saved',
    handler: async (_request, reply) => {
      reply.raw.end('{}')
      return {}
    },
    status: 200,
    saved: true
  },
  {
    title: 'a handler that sends a reply once more after it hijacked it is saved',
    handler: async (_request, reply) => {
      reply.hijack()
      reply.raw.end('{}')
      reply.send({})
    },
    status: 200,
    saved: true
  },
  {
    title: 'a query that runs when it is awaited is run once',
    handler: () => {
      let runs = 0
      return { then: (resolve: (value: unknown) => void, reject: (error: Error) => void) => runs++ === 0 ? resolve({}) : reject(new Error('run twice')) }
    },
    status: 200,
    saved: true
  },
  {
    title: 'a handler that hijacked the reply may change the state after it ended it',
    handler: async ({ state }, reply) => {
      reply.hijack()
      await pipeline(Readable.from(['{', '}']), reply.raw)
      await wait(10)
      state.conversation.set('kept', true)
    },
    status: 200,
    saved: true
  },
  {
    title: 'a handler that gives a promise of its own making is saved',
    handler: () => ({ then: (resolve: (value: unknown) => void) => resolve({}) }),
    status: 200,
    saved: true
  },
  {
    title: 'a handler that is too slow for its timeout is not saved',
    handler: async () => { await wait(100) },
    handlerTimeout: 30,
    status: 503,
    saved: false
  }
]

tryEndings(t, endings)

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

t.test('what fails after the last hook is a 500, and the server lives on', async (t) => {
  for (const flush of ['onResponse', 'onSend'] as const) {
    const { url } = await buildFastify(t, { flush }, (app) => {
      app.post('/', async ({ state }, reply) => {
        state.conversation.set('n', 1)
        return reply.header('x-name', '🤖').send({})
      })
      app.post('/fine', async () => ({}))
    })
    t.equal((await post(url, message())).status, 500)
    t.equal((await post(`${url}/fine`, message())).status, 200)
  }
})
