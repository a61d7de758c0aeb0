import { once } from 'node:events'
import { connect as connectHttp2, constants } from 'node:http2'
import { PassThrough } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import t from 'tap'
import botasState from '../../lib/index.js'
import { CONVERSATION_KEY, message } from '../helpers/activities.js'
import { buildFastify, listen, post, settled } from '../helpers/build-fastify.js'
import { protocols } from '../helpers/client.js'
import { type Ending, tryEndings } from '../helpers/endings.js'
import { type Handler, flushes } from '../helpers/outcomes.js'
import { gate, httpPost, openSocket, sendHttp1, senders } from '../helpers/raw-client.js'
import { RecordingStorage } from '../helpers/recording-storage.js'
import { slowStorage } from '../helpers/slow-storage.js'

const endings: Ending[] = [
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

tryEndings(t, endings)

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

t.test('what a handler does after its client left is saved as well', async (t) => {
  for (const { send, options } of Object.values(senders)) {
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
  const session = connectHttp2(`http://127.0.0.1:${port}`)
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

t.test('a turn that failed, and whose client left, before its state was loaded holds up no later one', async (t) => {
  const app = Fastify({ forceCloseConnections: true })
  t.teardown(() => app.close())
  app.addHook('preValidation', async (request) => {
    if ((request.body as { text?: string }).text !== 'fails') return
    request.state.fail()
    await once(request.raw.socket, 'close')
  })
  await app.register(botasState, { storage: slowStorage(), loadTimeout: 60_000 })
  app.post('/', async ({ state }) => ({ n: state.conversation.update<number>('n', (n = 0) => n + 1) }))
  const { url, port } = await listen(app)
  const socket = await openSocket(port)
  socket.write(httpPost('/', message({ text: 'fails' })))
  await settled(() => app.botasState.stats.openTurns === 0)
  await wait(20)
  socket.destroy()
  await settled(() => app.botasState.stats.loads === 1)
  t.match(await post(url, message()), { status: 200, body: { n: 1 } })
  await settled(() => app.botasState.stats.openTurns === 0)
})
