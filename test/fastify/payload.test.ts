import { PassThrough, Readable } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import Fastify from 'fastify'
import t from 'tap'
import { CONVERSATION_KEY, message } from '../helpers/activities.js'
import { buildFastify, listen } from '../helpers/build-fastify.js'
import { protocols } from '../helpers/client.js'
import { type Ending, tryEndings } from '../helpers/endings.js'
import { flushes, outcomes } from '../helpers/outcomes.js'
import { slowStorage } from '../helpers/slow-storage.js'

const endings: Ending[] = [
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

tryEndings(t, endings)

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
