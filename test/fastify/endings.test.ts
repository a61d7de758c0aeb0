import { once } from 'node:events'
import { connect, constants } from 'node:http2'
import { PassThrough, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as wait } from 'node:timers/promises'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import t from 'tap'
import botasState, { activityIdentity } from '../../lib/index.js'
import { CONVERSATION_KEY, message } from '../helpers/activities.js'
import { buildFastify, listen, post, settled } from '../helpers/build-fastify.js'
import { gate, httpPost, openSocket, sendHttp1, sendHttp2 } from '../helpers/raw-client.js'
import { RecordingStorage } from '../helpers/recording-storage.js'

interface Ending {
  title: string
  /** the handler; the state was changed before it, and `reached` lets the client act */
  handler: (request: FastifyRequest, reply: FastifyReply, reached: () => void, goOn: Promise<void>) => unknown
  /** what else the server has */
  server?: (app: FastifyInstance) => void
  /** in milliseconds, for a GET: Fastify forgets the timeout of a request whose body was read */
  handlerTimeout?: number
  /** the first Fastify that can do this: an earlier one throws by itself, where nobody can catch it */
  since?: string
  /** what the client does when the handler is reached; by default it waits for the response */
  client?: 'leaves' | 'resets'
  status?: number
  saved: boolean
}

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
    saved: true
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
    title: 'a handler that awaits its streamed reply may change the state after that',
    handler: async ({ state }, reply) => {
      state.conversation.delete('kept')
      reply.send(Readable.from(['{', '}']))
      await reply
      state.conversation.set('kept', true)
    },
    status: 200,
    saved: true
  },
  {
    title: 'a stream that ends is saved',
    handler: async () => Readable.from(['{', '}']),
    status: 200,
    saved: true
  },
  {
    title: 'a stream that fails after the headers is not saved',
    handler: async () => {
      const stream = new PassThrough()
      stream.write('{')
      setTimeout(() => stream.destroy(new Error('no')), 20)
      return stream
    },
    saved: false
  },
  {
    title: 'a stream that fails before the headers is not saved',
    handler: async () => new Readable({ read () { this.destroy(new Error('no')) } }),
    status: 500,
    saved: false
  },
  {
    title: 'a stream that breaks off without an error is not saved',
    handler: async () => {
      const stream = new PassThrough()
      stream.write('{')
      setTimeout(() => stream.destroy(), 20)
      return stream
    },
    saved: false
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
    title: 'a web stream that ends is saved',
    handler: async () => new Response('{}').body,
    status: 200,
    saved: true
  },
  {
    title: 'a web stream that fails after the headers is not saved',
    handler: async () => failingWebStream(),
    saved: false
  },
  {
    title: 'a fetch Response is saved',
    handler: async () => new Response('{}', { status: 201 }),
    status: 201,
    saved: true
  },
  {
    title: 'a fetch Response without a body is saved',
    handler: async () => new Response(null, { status: 202 }),
    status: 202,
    saved: true
  },
  {
    title: 'a fetch Response with a 5xx is not saved',
    handler: async () => new Response('{}', { status: 503 }),
    status: 503,
    saved: false
  },
  {
    title: 'a fetch Response whose stream fails is not saved',
    handler: async () => new Response(failingWebStream()),
    saved: false
  },
  {
    title: 'a web stream of another make that fails is not saved',
    handler: async () => {
      const reader = failingWebStream().getReader()
      return { getReader: () => reader, locked: false }
    },
    saved: false
  },
  {
    title: 'a Response of another make with a 5xx is not saved',
    handler: async () => ({ [Symbol.toStringTag]: 'Response', status: 503, headers: new Headers(), body: null }),
    status: 503,
    saved: false
  },
  {
    title: 'a stream that somebody else reads already is Fastify\'s to refuse',
    handler: async () => {
      const stream = new Response('{}').body as ReadableStream
      stream.getReader()
      return stream
    },
    status: 500,
    saved: false
  },
  {
    title: 'a handler that is too slow for its timeout is not saved',
    handler: async () => { await wait(100) },
    handlerTimeout: 30,
    status: 503,
    saved: false
  },
  {
    title: 'a stream that is too slow for the timeout of its handler is not saved',
    handler: async (_request, reply) => {
      const stream = new PassThrough()
      stream.write('{')
      reply.send(stream)
      await wait(100)
      stream.end('}')
      return reply
    },
    handlerTimeout: 30,
    since: '5.12.8',
    saved: false
  },
  {
    title: 'a client that disconnects mid-turn does not lose the turn',
    handler: async (_request, _reply, reached, goOn) => {
      reached()
      await goOn
      return {}
    },
    client: 'leaves',
    saved: true
  },
  {
    title: 'a client that resets its connection mid-turn does not lose the turn',
    handler: async (_request, _reply, reached, goOn) => {
      reached()
      await goOn
      return {}
    },
    client: 'resets',
    saved: true
  },
  {
    title: 'a client that disconnects does not lose the turn of a handler that returns nothing',
    handler: async (_request, _reply, reached, goOn) => {
      reached()
      await goOn
    },
    client: 'leaves',
    saved: true
  },
  {
    title: 'a client that disconnects does not lose the turn of a handler that replies from a callback',
    handler: (_request, reply, reached, goOn) => {
      reached()
      goOn.then(() => reply.send({}))
    },
    client: 'leaves',
    saved: true
  },
  {
    title: 'a client that disconnects does not lose the turn of a handler that hijacks the reply afterwards',
    handler: async (_request, reply, reached, goOn) => {
      reached()
      await goOn
      reply.hijack()
      reply.raw.end('{}')
    },
    client: 'leaves',
    saved: true
  },
  {
    title: 'what a callback writes past Fastify to a client that left is judged by its own status',
    handler: ({ state }, reply, reached, goOn) => {
      reached()
      goOn.then(() => {
        reply.code(503).hijack()
        state.conversation.set('kept', true)
        reply.raw.statusCode = 200
        reply.raw.end('{}')
      })
    },
    client: 'leaves',
    saved: true
  },
  {
    title: 'a status that is set after a handler ended the response of a client that left changes nothing',
    handler: async (_request, reply, reached, goOn) => {
      reached()
      await goOn
      reply.hijack()
      reply.raw.end('{}')
      reply.code(503)
    },
    client: 'leaves',
    saved: true
  },
  {
    title: 'a client that disconnects from a hijacked reply ends its turn',
    handler: async (_request, reply, reached) => {
      reply.hijack()
      reply.raw.write('{')
      reached()
    },
    client: 'leaves',
    saved: true
  },
  {
    title: 'a handler that throws after its client disconnected is not saved',
    handler: async (_request, _reply, reached, goOn) => {
      reached()
      await goOn
      throw new Error('no')
    },
    client: 'leaves',
    saved: false
  },
  {
    title: 'a later onSend hook that throws after the client disconnected makes the turn fail',
    handler: async (_request, _reply, reached, goOn) => {
      reached()
      await goOn
      return {}
    },
    server: (app) => app.addHook('onSend', async (_request, reply) => {
      await wait(10)
      if (reply.statusCode < 500) throw new Error('no')
    }),
    client: 'leaves',
    saved: false
  },
  {
    title: 'a client that disconnects from a hijacked reply does not lose what its handler still does',
    handler: async ({ state }, reply, reached, goOn) => {
      state.conversation.delete('kept')
      reply.hijack()
      reply.raw.write('{')
      reached()
      await goOn
      await wait(20)
      state.conversation.set('kept', true)
      reply.raw.end()
    },
    client: 'leaves',
    saved: true
  },
  {
    title: 'a handler that throws after its client left a hijacked reply is not saved',
    handler: async (_request, reply, reached, goOn) => {
      reply.hijack()
      reply.raw.write('{')
      reached()
      await goOn
      throw new Error('no')
    },
    client: 'leaves',
    saved: false
  },
  {
    title: 'a client that disconnects from a stream does not lose what its handler still does',
    handler: async ({ state }, reply, reached, goOn) => {
      state.conversation.delete('kept')
      const stream = new PassThrough()
      stream.write('{')
      reply.send(stream)
      setTimeout(reached, 20)
      await goOn
      await wait(20)
      state.conversation.set('kept', true)
      stream.end('}')
      return reply
    },
    client: 'leaves',
    saved: true
  },
  {
    title: 'a handler that returns the reply, which somebody else sends after its client left, is saved',
    handler: async ({ state }, reply, reached, goOn) => {
      state.conversation.delete('kept')
      reached()
      goOn.then(() => wait(20)).then(() => {
        state.conversation.set('kept', true)
        reply.send({})
      })
      return reply
    },
    client: 'leaves',
    saved: true
  },
  {
    title: 'a hook that throws for a reply on its way when the client disconnects makes the turn fail',
    handler: async (_request, reply, reached) => {
      setTimeout(reached, 20)
      return reply.send({})
    },
    server: (app) => app.addHook('onSend', async (_request, reply) => {
      await wait(60)
      if (reply.statusCode < 500) throw new Error('no')
    }),
    client: 'leaves',
    saved: false
  },
  {
    title: 'a handler that throws after its client disconnected, and whose error is swallowed, is not saved',
    handler: async (_request, _reply, reached, goOn) => {
      reached()
      await goOn
      throw new Error('no')
    },
    server: (app) => app.setErrorHandler(async () => {}),
    client: 'leaves',
    saved: false
  },
  {
    title: 'a client that disconnects mid-stream does not lose the turn',
    handler: async (_request, _reply, reached) => {
      const stream = new PassThrough()
      stream.write('{')
      setTimeout(reached, 20)
      return stream
    },
    client: 'leaves',
    saved: true
  },
  {
    title: 'a stream that begins when the client has disconnected is no failure',
    handler: async (_request, _reply, reached, goOn) => {
      reached()
      await goOn
      return new PassThrough()
    },
    client: 'leaves',
    saved: true
  },
  {
    title: 'a stream whose source is stopped because the client disconnected is no failure',
    handler: async (request, _reply, reached) => {
      const stream = new PassThrough()
      stream.write('{')
      request.raw.on('aborted', () => stream.destroy(new Error('nobody listens')))
      setTimeout(reached, 20)
      return stream
    },
    client: 'leaves',
    saved: true
  },
  {
    title: 'a handler that awaits its streamed reply does not lose what it does after its client disconnected',
    handler: async ({ state }, reply, reached) => {
      state.conversation.delete('kept')
      const stream = new PassThrough()
      stream.write('{')
      reply.send(stream)
      setTimeout(reached, 20)
      await reply
      state.conversation.set('kept', true)
    },
    client: 'leaves',
    saved: true
  },
  {
    title: 'a client that disconnects mid-way through a web stream does not lose the turn',
    handler: async (_request, _reply, reached) => {
      setTimeout(reached, 20)
      return new ReadableStream({ start (controller) { controller.enqueue(Buffer.from('{')) } })
    },
    client: 'leaves',
    saved: true
  }
]

function failingWebStream (): ReadableStream {
  let chunks = 0
  return new ReadableStream({
    async pull (controller) {
      await wait(10)
      if (chunks++ < 2) controller.enqueue(Buffer.from(' '))
      else throw new Error('no')
    }
  })
}

/** A GET is a turn of the same conversation. */
const identify = ({ method, body }: FastifyRequest) => activityIdentity(method === 'GET' ? message() : body)

const protocols = { 'HTTP/1.1': { send: sendHttp1, options: {} }, 'HTTP/2': { send: sendHttp2, options: { http2: true } as object } }

for (const [protocol, { send, options }] of Object.entries(protocols)) {
  for (const flush of ['onResponse', 'onSend'] as const) {
    t.test(`${protocol}, flush: ${flush}`, async (t) => {
      t.jobs = 8
      for (const ending of endings.filter(({ since = '5' }) => Fastify().version.localeCompare(since, 'en', { numeric: true }) >= 0)) {
        t.test(ending.title, async (t) => {
          const storage = new RecordingStorage()
          const reached = gate()
          const goOn = gate()
          const closed = gate()
          const { app, log, port } = await buildFastify(t, { storage, flush, identify, flushTimeout: 5000 }, (app) => {
            ending.server?.(app)
            app.addHook('preHandler', async ({ state }) => { state.conversation.set('kept', true) })
            app.post('/', (request, reply) => ending.handler(request, reply, reached.open, goOn.opened))
            app.get('/', { handlerTimeout: ending.handlerTimeout ?? 5000 }, (request, reply) =>
              ending.handler(request, reply, reached.open, goOn.opened))
          }, options)
          app.server.once('request', (_request, response) => response.once('close', closed.open))
          const request = await send(port, ending.handlerTimeout === undefined ? message() : undefined)
          if (ending.client !== undefined) {
            await reached.opened
            if (ending.client === 'leaves') request.leave()
            else request.reset()
          }
          await closed.opened
          goOn.open()
          if (ending.client === undefined) await settled(request.over)
          else await wait(50)
          await app.close()
          t.strictSame(await storage.stored(CONVERSATION_KEY), ending.saved ? storedBy(ending) : undefined)
          t.strictSame(storage.calls.filter(([method]) => method === 'update').length, ending.saved && storedBy(ending) ? 1 : 0)
          if (ending.status !== undefined) t.equal(request.status(), ending.status)
          t.strictSame(log.filter(({ msg }) => /state|turns/.test(msg)), [], 'no failed save is reported, and no turn is left open')
        })
      }
    })
  }
}

/** A hook that comes before the one that changes the state may answer first. */
function storedBy ({ title }: Ending) {
  return title.includes('answers by itself') ? undefined : { kept: true }
}

t.test('what a handler does after its client left is saved as well', async (t) => {
  for (const { send, options } of Object.values(protocols)) {
    const storage = new RecordingStorage()
    const reached = gate()
    const goOn = gate()
    const { app, port } = await buildFastify(t, { storage }, (app) => {
      app.post('/', async ({ state }) => {
        state.conversation.set('before', 1)
        reached.open()
        await goOn.opened
        state.conversation.set('after', 2)
        return {}
      })
    }, options)
    const request = await send(port, message())
    await reached.opened
    request.leave()
    await wait(50)
    goOn.open()
    await wait(20)
    await app.close()
    t.strictSame(await storage.stored(CONVERSATION_KEY), { before: 1, after: 2 })
  }
})

t.test('an HTTP/2 client that gives up with an error code does not lose the turn', async (t) => {
  const storage = new RecordingStorage()
  const reached = gate()
  const goOn = gate()
  const { app, port } = await buildFastify(t, { storage }, (app) => {
    app.post('/', async ({ state }) => {
      reached.open()
      await goOn.opened
      state.conversation.set('kept', true)
    })
  }, { http2: true } as object)
  const session = connect(`http://127.0.0.1:${port}`)
  const stream = session.request({ ':path': '/', ':method': 'POST', 'content-type': 'application/json' })
  stream.on('error', () => {})
  stream.end(JSON.stringify(message()))
  await reached.opened
  stream.close(constants.NGHTTP2_INTERNAL_ERROR)
  await wait(30)
  goOn.open()
  await wait(20)
  session.destroy()
  await app.close()
  t.strictSame(await storage.stored(CONVERSATION_KEY), { kept: true })
})

t.test('pipelined requests whose client disconnects are all saved, in one listener per connection', async (t) => {
  const storage = new RecordingStorage()
  const goOn = gate()
  const seen = new Set<string>()
  const { app, port } = await buildFastify(t, { storage }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body, state }) => {
      state.conversation.set(body.text, true)
      seen.add(body.text)
      if (Number(body.text) % 2 === 0) await goOn.opened
      state.user.set(body.text, true)
      return Number(body.text) % 3 === 0 ? undefined : {}
    })
  })
  const warnings: Error[] = []
  const warned = (warning: Error) => warnings.push(warning)
  process.on('warning', warned)
  t.teardown(() => process.off('warning', warned))
  const closed = gate()
  app.server.once('connection', (socket) => socket.once('close', closed.open))
  const socket = await openSocket(port)
  const texts = Array.from({ length: 20 }, (_, index) => String(index))
  socket.write(texts.map((text) => httpPost('/', message({ text, conversation: text, user: text }))).join(''))
  while (seen.size < texts.length) await wait(5)
  socket.destroy()
  await closed.opened
  goOn.open()
  await wait(20)
  await app.close()
  for (const text of texts) {
    t.strictSame(await storage.stored(`test/bot/conversations/${text}`), { [text]: true })
    t.strictSame(await storage.stored(`test/bot/users/${text}`), { [text]: true })
  }
  t.strictSame(warnings, [])
})

for (const flush of ['onResponse', 'onSend'] as const) {
  t.test(`a pipelined request that is being served when its client disconnects is saved once, flush: ${flush}`, async (t) => {
    const storage = new RecordingStorage()
    const reached = gate()
    const { app, log, port } = await buildFastify(t, { storage, flush }, (app) => {
      app.post<{ Body: { text: string } }>('/', async ({ body, state }) => {
        if (body.text === 'second') {
          await wait(50)
          reached.open()
          await wait(50)
        }
        state.conversation.set(body.text, true)
        return {}
      })
    })
    storage.failures.update = new Error('disk full')
    const socket = await openSocket(port)
    socket.write(['first', 'second'].map((text) => httpPost('/', message({ text }))).join(''))
    await reached.opened
    socket.destroy()
    await wait(80)
    await app.close()
    t.equal(storage.count('update'), 2)
    t.equal(log.length, 2, 'each failure is reported once')
  })
}

t.test('a client that is gone before its state is loaded does not lose the turn', async (t) => {
  const storage = new RecordingStorage()
  const reached = gate()
  const closed = gate()
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('preValidation', async (_request, reply) => {
    reply.raw.once('close', closed.open)
    reached.open()
    await closed.opened
  })
  await app.register(botasState, { storage })
  app.post('/', async ({ state }) => { state.conversation.set('kept', true) })
  const { port } = await listen(app)
  const socket = await openSocket(port)
  socket.write(httpPost('/', message()))
  await reached.opened
  socket.destroy()
  await closed.opened
  await wait(20)
  await app.close()
  t.strictSame(await storage.stored(CONVERSATION_KEY), { kept: true })
})

t.test('pipelined requests of a patient client are all saved', async (t) => {
  const storage = new RecordingStorage()
  const { app, port } = await buildFastify(t, { storage }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body, state }) => {
      await wait(20 - Number(body.text))
      state.conversation.set(body.text, true)
      return {}
    })
  })
  const socket = await openSocket(port)
  const texts = Array.from({ length: 20 }, (_, index) => String(index))
  socket.write(texts.map((text) => httpPost('/', message({ text }))).join(''))
  let answer = ''
  while (answer.split('HTTP/1.1 200').length <= texts.length) answer += (await once(socket, 'data'))[0]
  await app.close()
  t.strictSame(Object.keys(await storage.stored(CONVERSATION_KEY) ?? {}).length, texts.length)
})

t.test('a server that cuts a slow connection does not lose its turn', async (t) => {
  const storage = new RecordingStorage()
  const { app, port } = await buildFastify(t, { storage }, (app) => {
    app.post('/', async ({ state }) => {
      await wait(150)
      state.conversation.set('kept', true)
      return {}
    })
  }, { connectionTimeout: 50 })
  const socket = await openSocket(port)
  socket.write(httpPost('/', message()))
  await once(socket, 'close')
  await wait(200)
  await app.close()
  t.strictSame(await storage.stored(CONVERSATION_KEY), { kept: true })
})

t.test('a turn that is over refuses writes instead of losing them', async (t) => {
  const storage = new RecordingStorage()
  const { app, url } = await buildFastify(t, { storage }, (app) => {
    app.post('/', async ({ state }) => {
      state.conversation.set('n', 1)
      kept = state
      return {}
    })
  })
  let kept: FastifyRequest['state'] | undefined
  t.equal((await post(url, message())).status, 200)
  while (storage.count('update') === 0) await wait(1)
  const { conversation, user, temp } = kept as FastifyRequest['state']
  await settled(() => storage.count('update') === 1)
  const ended = { code: 'FST_BOTAS_STATE_TURN_ENDED', statusCode: 500 }
  for (const scope of [conversation, user, temp] as unknown as Array<typeof conversation>) {
    t.match(t.throws(() => scope.set('late', 1)), ended)
    t.match(t.throws(() => scope.update('late', () => 1)), ended)
    t.match(t.throws(() => scope.delete('late')), ended)
    t.match(t.throws(() => scope.clear()), ended)
  }
  t.match(t.throws(() => kept?.setValue('user.late', 1)), ended)
  t.match(t.throws(() => kept?.deleteConversationState()), ended)
  t.equal(conversation.get('n'), 1, 'reading goes on')
  await app.close()
  t.strictSame(await storage.stored(CONVERSATION_KEY), { n: 1 })
})

t.test('a handler that goes on after its timeout cannot write any more', async (t) => {
  const storage = new RecordingStorage()
  const late: unknown[] = []
  const { app, url } = await buildFastify(t, { storage, identify }, (app) => {
    app.get('/', { handlerTimeout: 30 }, async ({ state }) => {
      state.conversation.set('n', 1)
      await wait(100)
      try {
        state.conversation.set('n', 2)
      } catch (error) {
        late.push(error)
      }
    })
  })
  t.equal((await fetch(url)).status, 503)
  while (late.length === 0) await wait(5)
  t.match(late, [{ code: 'FST_BOTAS_STATE_FAILED', statusCode: 500, message: /botasState\.run/, cause: { code: 'FST_ERR_HANDLER_TIMEOUT' } }])
  await app.close()
  t.equal(storage.count('update'), 0)
})

/** Lets a client leave while the handler is at work, and gives what is stored when the turn has come to its end. */
async function storedAfterClientLeft (app: FastifyInstance, port: number, storage: RecordingStorage) {
  const request = await sendHttp1(port, message())
  await settled(() => storage.count('read') === 1)
  await wait(20)
  request.leave()
  await settled(async () => await storage.stored(CONVERSATION_KEY) !== undefined)
  await app.close()
  return storage.stored(CONVERSATION_KEY)
}

t.test('a handler that sees no use in a reply to a client that left is saved in the end', async (t) => {
  for (const handler of [
    (_request: FastifyRequest, reply: FastifyReply) => { setTimeout(() => { if (!reply.raw.destroyed) reply.send({}) }, 50) },
    (_request: FastifyRequest, reply: FastifyReply) => { setTimeout(() => reply.raw.end(), 50) },
    async (_request: FastifyRequest, reply: FastifyReply) => reply
  ]) {
    const storage = new RecordingStorage()
    const { app, port } = await buildFastify(t, { storage, flushTimeout: 200 }, (app) => {
      app.post('/', (request, reply) => {
        request.state.conversation.set('kept', true)
        return handler(request, reply)
      })
    })
    t.strictSame(await storedAfterClientLeft(app, port, storage), { kept: true })
  }
})

t.test('a handler at work is given all the time it takes after its client left', async (t) => {
  const storage = new RecordingStorage()
  const { app, port } = await buildFastify(t, { storage, flushTimeout: 100 }, (app) => {
    app.post('/', async ({ state }) => {
      await wait(300)
      state.conversation.set('kept', true)
    })
  })
  t.strictSame(await storedAfterClientLeft(app, port, storage), { kept: true })
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

t.test('temp goes on after the state is stored, for the hooks that come then', async (t) => {
  const { url } = await buildFastify(t, { flush: 'onSend' }, (app) => {
    app.addHook('onResponse', async ({ state }) => {
      state.temp.set('done', true)
      t.match(t.throws(() => state.conversation.set('n', 2)), { code: 'FST_BOTAS_STATE_TURN_ENDED' })
    })
    app.post('/', async ({ state }) => { state.conversation.set('n', 1) })
  })
  t.equal((await post(url, message())).status, 200)
})

t.test('a turn that failed keeps temp for the error handler and the hooks after it', async (t) => {
  const { url } = await buildFastify(t, {}, (app) => {
    app.setErrorHandler(async (error, { state }) => {
      const refusal = t.throws(() => state.conversation.set('n', 1), { code: 'FST_BOTAS_STATE_FAILED' }) as unknown as Error
      t.equal(refusal.cause, error, 'the first error is not hidden')
      state.temp.set('seen', state.conversation.get('n'))
      return {}
    })
    app.addHook('onSend', async ({ state }, reply) => { reply.header('x-seen', state.temp.get<number>('seen')) })
    app.post('/', async ({ state }) => {
      state.conversation.set('n', 7)
      throw new Error('no')
    })
  })
  const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(message()) })
  t.equal(response.headers.get('x-seen'), '7')
})
