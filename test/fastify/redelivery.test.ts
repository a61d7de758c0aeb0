import { Readable } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import t, { type Test } from 'tap'
import botasState, { type BotasStateOptions, MemoryStorage, activityId } from '../../lib/index.js'
import { message } from '../helpers/activities.js'
import { buildFastify, settled } from '../helpers/build-fastify.js'
import { protocols } from '../helpers/client.js'
import { LeasingStorage, newServer } from '../helpers/leasing-storage.js'
import { onceStorages } from '../helpers/overlap-storages.js'

async function deliver (url: string, body: unknown) {
  const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
  const { status, headers } = response
  const bytes = Buffer.from(await response.arrayBuffer())
  return { status, headers, bytes, text: bytes.toString(), isReplayed: headers.get('botas-state') === 'replayed' }
}

const IDENTITY = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1' }

/** A bot whose handlers count, under the path `/` and others. */
async function countingBot (t: Test, options: BotasStateOptions, routes: (app: FastifyInstance, count: () => void) => void = () => {}, path = '/', serverOptions: FastifyServerOptions = {}) {
  let runs = 0
  const server = await buildFastify(t, { once: true, ...options }, (app) => {
    app.post<{ Body: { text?: string } }>(path, async ({ body: { text }, state: { conversation } }) => {
      runs++
      await wait(20)
      if (text === 'fail' && runs === 1) throw new Error('no')
      return { n: conversation.update<number>('n', (n = 0) => n + 1) }
    })
    routes(app, () => { runs++ })
  }, serverOptions)
  const stored = () => server.app.botasState.run(IDENTITY, ({ conversation }) => conversation.get('n'))
  return { ...server, runs: () => runs, stored }
}

t.test('a streamed answer that its client did not wait for is no answer: the next delivery gets it whole', async (t) => {
  const streams: Record<string, (source: AsyncGenerator<string>) => unknown> = {
    'a Readable': (source) => Readable.from(source),
    'a web stream': (source) => Readable.toWeb(Readable.from(source)),
    'a Response': (source) => new Response(Readable.toWeb(Readable.from(source, { objectMode: false })) as ReadableStream)
  }
  for (const [kind, stream] of Object.entries(streams)) {
    for (const [protocol, { serverOptions, connect }] of Object.entries(protocols)) {
      for (const flush of ['onSend', 'onResponse'] as const) {
        const { runs, app, port } = await countingBot(t, { storage: new LeasingStorage(newServer(), 5), flush }, (app, count) => {
          app.post<{ Body: { delay: number } }>('/', async ({ body, state: { conversation } }) => {
            count()
            conversation.update<number>('begun', (n = 0) => n + 1)
            await wait(body.delay)
            return stream((async function * () {
              for (let word = 0; word < 4; word++) {
                yield `word ${word} `
                await wait(20)
              }
              conversation.update<number>('finished', (n = 0) => n + 1)
            })())
          })
        }, '/other', serverOptions)
        for (const [when, delay] of Object.entries({ before: 60, during: 0 })) {
          const id = `${kind} ${protocol} ${flush} ${when}`
          const said = message({ id, conversation: id, delay })
          const leaving = await connect(t, port)
          leaving.begin(said)
          await settled(() => app.botasState.stats.openTurns === 1)
          await wait(30)
          leaving.leave()
          await settled(() => app.botasState.stats.openTurns === 0)
          const staying = await connect(t, port)
          const before = runs()
          t.match(await staying.say(said), { headers: { 'botas-state': undefined }, body: 'word 0 word 1 word 2 word 3 ' }, id)
          t.match(await staying.say(said), { headers: { 'botas-state': 'replayed' }, body: '' })
          t.equal(runs(), before + 1)
          const identity = { ...IDENTITY, conversationId: id }
          t.strictSame(await app.botasState.run(identity, ({ conversation }) => conversation.toJSON()), { begun: 1, finished: 1 })
          staying.leave()
        }
        await app.close()
      }
    }
  }
})

t.test('a streamed answer that left whole is an answer, also where its client leaves before its source has ended', async (t) => {
  const { runs, app, port } = await countingBot(t, { storage: new LeasingStorage(newServer(), 5) }, (app, count) => {
    app.post('/', async ({ state: { conversation } }, reply) => {
      count()
      conversation.set('isAnswered', true)
      reply.header('content-length', 8)
      return Readable.from((async function * () {
        yield 'tok '
        yield 'tok '
        await wait(100)
      })())
    })
  }, '/other')
  const said = message({ id: 'whole', conversation: 'whole' })
  const leaving = await protocols['HTTP/1.1'].connect(t, port)
  t.match(await leaving.say(said), { body: 'tok tok ' })
  leaving.leave()
  await settled(() => app.botasState.stats.openTurns === 0)
  t.match(await (await protocols['HTTP/1.1'].connect(t, port)).say(said), { headers: { 'botas-state': 'replayed' } })
  t.equal(runs(), 1)
  t.strictSame(await app.botasState.run({ ...IDENTITY, conversationId: 'whole' }, ({ conversation }) => conversation.toJSON()), { isAnswered: true })
})

for (const [name, make] of Object.entries(onceStorages)) {
  t.test(`on ${name}`, async (t) => {
    const open = await make(t)

    t.test('an activity that is delivered again gets the first reply, and its handler does not run', async (t) => {
      for (const flush of ['onSend', 'onResponse'] as const) {
        for (const concurrency of ['parallel', 'queue', 'reject', 'replace'] as const) {
          const { url, runs, app } = await countingBot(t, { storage: open(), flush, concurrency })
          const activity = message({ id: `${flush} ${concurrency}` })
          const first = await deliver(url, activity)
          const again = await deliver(url, activity)
          const atOnce = await Promise.all([1, 2, 3].map(() => deliver(url, message({ id: `${flush} ${concurrency} at once` }))))
          t.equal(runs(), 2, `${flush} ${concurrency}`)
          t.equal(first.isReplayed, false)
          t.strictSame([again.isReplayed, again.status, again.text], [true, first.status, first.text])
          t.equal(again.headers.get('content-type'), first.headers.get('content-type'))
          t.equal(new Set(atOnce.map(({ text }) => text)).size, 1)
          t.equal(atOnce.filter(({ isReplayed }) => isReplayed).length, 2)
          t.equal(app.botasState.stats.replayedTurns, 3)
          await app.close()
        }
      }
    })

    t.test('a delivery that fails leaves no mark: the next one runs', async (t) => {
      const { url, runs, stored } = await countingBot(t, { storage: open(), identify: () => ({ ...IDENTITY, conversationId: 'failing' }) })
      const [first, second] = await Promise.all([1, 2].map(() => deliver(url, message({ id: 'failing', text: 'fail' }))))
      t.strictSame([first?.status, second?.status].sort(), [200, 500])
      t.equal(runs(), 2)
      t.equal((await deliver(url, message({ id: 'failing', text: 'fail' }))).isReplayed, true)
      t.equal(runs(), 2)
      await stored()
    })

    t.test('an activity is known in its conversation only, and one without an id runs each time', async (t) => {
      const { url, runs } = await countingBot(t, { storage: open() })
      for (const conversation of ['here', 'there']) await deliver(url, message({ id: 'same', conversation }))
      t.equal(runs(), 2)
      for (const id of [undefined, null, '', undefined]) await deliver(url, message({ id }))
      t.equal(runs(), 6)
    })

    t.test('a stranger who was replaced while he was turned away keeps nobody\'s activity from being handled either', async (t) => {
      for (const flush of ['onSend', 'onResponse'] as const) {
        let isAtWork = false
        const { url, app } = await countingBot(t, { storage: open(), flush, concurrency: 'replace' }, (app) => {
          app.post<{ Body: { isLetIn: boolean } }>('/', async ({ body }, reply) => {
            if (body.isLetIn) return {}
            isAtWork = true
            await wait(60)
            return reply.code(401).send({})
          })
        }, '/other')
        const post = (id: string, isLetIn: boolean) => deliver(url, message({ id: `${flush} ${id}`, conversation: 'strangers', isLetIn }))
        const stranger = post('1', false)
        await settled(() => isAtWork)
        t.match(await post('2', true), { status: 200 })
        t.match(await stranger, { status: 401 })
        t.match(await post('1', true), { status: 200, isReplayed: false })
        await app.close()
      }
    })

    t.test('that a message was edited or deleted is no redelivery of it', async (t) => {
      const { url, runs } = await countingBot(t, { storage: open(), identify: () => ({ ...IDENTITY, conversationId: 'edited' }) })
      const [at, later] = ['2026-11-26T10:00:00.123Z', '2026-11-26T10:00:07Z']
      const changes = [
        { type: 'message' }, { type: 'messageUpdate', timestamp: at }, { type: 'messageUpdate', timestamp: later }, { type: 'messageDelete', timestamp: later }
      ]
      for (const change of changes) t.equal((await deliver(url, message({ id: 'm', ...change }))).isReplayed, false)
      t.equal(runs(), 4)
      for (const change of changes) t.equal((await deliver(url, message({ id: 'm', ...change }))).isReplayed, true)
      t.equal(runs(), 4)
      const dated = (timestamp: string) => activityId(message({ id: 'm', type: 'messageUpdate', timestamp: new Date(timestamp) }))
      t.equal(dated(at), activityId(message({ id: 'm', type: 'messageUpdate', timestamp: at })), 'SDKs make a Date of it')
      for (const timestamp of [undefined, 'yesterday', undefined]) await deliver(url, message({ id: 'm', type: 'messageUpdate', timestamp }))
      t.equal(runs(), 7, 'without a time it cannot be known again')
    })

    t.test('work that goes on though its client does not wait for the streamed answer is done once', async (t) => {
      const { url, runs, app } = await countingBot(t, { storage: open() }, (app, count) => {
        app.post('/', async ({ state }) => {
          count()
          state.waitUntil(wait(100).then(() => state.conversation.set('isDone', true)))
          return Readable.from((async function * () {
            for (let word = 0; word < 50; word++) {
              yield 'word '
              await wait(10)
            }
          })())
        })
      }, '/other')
      const said = message({ id: 'goes on', conversation: 'goes on' })
      const leaving = new AbortController()
      const response = await fetch(url, {
        method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(said), signal: leaving.signal
      })
      await response.body?.getReader().read()
      leaving.abort()
      t.equal((await deliver(url, said)).isReplayed, true)
      t.equal(runs(), 1)
      t.strictSame(await app.botasState.run({ ...IDENTITY, conversationId: 'goes on' }, ({ conversation }) => conversation.toJSON()), { isDone: true })
    })

    t.test('a stranger who was turned away keeps nobody\'s activity from being handled', async (t) => {
      for (const flush of ['onSend', 'onResponse'] as const) {
        for (const concurrency of ['parallel', 'queue', 'replace'] as const) {
          const { url, runs, app } = await countingBot(t, { storage: open(), flush, concurrency }, (app, count) => {
            app.post<{ Body: { isLetIn: boolean, changes: boolean } }>('/', async ({ body, state }, reply) => {
              count()
              if (body.changes) state.conversation.update<number>('tried', (n = 0) => n + 1)
              return reply.code(body.isLetIn ? 200 : body.changes ? 403 : 401).send({})
            })
          }, '/other')
          const post = (isLetIn: boolean, changes: boolean) => deliver(url, message({ id: `stranger ${flush} ${concurrency} ${changes}`, isLetIn, changes }))
          for (const changes of [false, true]) {
            t.equal((await post(false, changes)).isReplayed, false)
            t.match(await post(true, changes), { status: 200, isReplayed: false }, `${flush} ${concurrency} ${changes}`)
            t.match(await post(false, changes), { status: 200, isReplayed: true })
          }
          t.equal(runs(), 4)
          await app.close()
        }
      }
    })

    t.test('a reply is kept as it was sent: status, headers, text, bytes, or nothing', async (t) => {
      const { url, runs } = await countingBot(t, { storage: open() }, (app, count) => {
        app.addHook('onSend', async (_request, reply, payload) => {
          reply.header('x-hook', 'ran')
          return typeof payload === 'string' ? `${payload}!` : payload
        })
        app.post('/created', async (_request, reply) => {
          count()
          return reply.code(201).header('location', '/things/1').header('set-cookie', ['a=1', 'b=2']).send({ id: 1 })
        })
        app.post('/bytes', async (_request, reply) => { count(); return reply.type('image/png').send(Buffer.from([0, 255, 128])) })
        app.post('/empty', async (_request, reply) => { count(); return reply.code(202).send() })
        app.post('/unchanged', async (_request, reply) => { count(); return reply.code(304).header('etag', '"1"').send() })
        app.post('/text', async () => { count(); return 'Grüße' })
        app.post('/taken', (_request, reply) => { count(); reply.hijack().raw.writeHead(202, { 'x-own': 'yes', 'content-encoding': 'identity' }).end('taken over') })
        app.post('/not-modified', async () => { count(); return new Response(null, { status: 304, headers: { etag: '"1"', 'last-modified': 'today' } }) })
        app.post('/cookie', async () => { count(); return new Response('cookie', { headers: [['set-cookie', 'a=1']] }) })
        app.post('/response', async (_request, reply) => {
          count()
          reply.header('set-cookie', 'a=1')
          return new Response('{"a":1}', { status: 201, headers: [['content-type', 'application/json'], ['x-own', 'yes'], ['set-cookie', 'b=2'], ['set-cookie', 'c=3']] })
        })
      })
      for (const path of ['created', 'bytes', 'empty', 'unchanged', 'not-modified', 'text', 'cookie', 'response']) {
        const before = runs()
        const first = await deliver(`${url}/${path}`, message({ id: path }))
        const again = await deliver(`${url}/${path}`, message({ id: path }))
        t.equal(runs(), before + 1, path)
        t.equal(again.isReplayed, true)
        t.strictSame([again.status, again.bytes], [first.status, first.bytes], path)
        for (const name of ['location', 'set-cookie', 'content-type', 'x-hook', 'x-own', 'etag', 'last-modified', 'content-length']) {
          if (['cookie', 'response', 'not-modified'].includes(path) && name === 'content-length') continue
          t.equal(again.headers.get(name), first.headers.get(name), `${path}: ${name}`)
        }
      }
      await deliver(`${url}/taken`, message({ id: 'taken' }))
      const taken = await deliver(`${url}/taken`, message({ id: 'taken' }))
      t.strictSame([taken.isReplayed, taken.status, taken.text, taken.headers.get('content-encoding')], [true, 202, '', null])
    })

    t.test('of a reply that is streamed or too long status and headers are kept', async (t) => {
      const { url, runs } = await countingBot(t, { storage: open(), once: { keepReply: 10 } }, (app, count) => {
        app.post('/stream', async (_request, reply) => { count(); return reply.code(201).header('x-own', 'yes').type('text/plain').send(Readable.from(['a', 'b'])) })
        app.post('/long', async (_request, reply) => { count(); return reply.code(201).header('x-own', 'yes').header('content-security-policy', 'own').send({ text: 'x'.repeat(100) }) })
        app.post('/fits', async (_request, reply) => { count(); return reply.code(201).header('x-own', 'yes').send('0123456789') })
      })
      for (const [path, expected] of [['stream', ''], ['long', ''], ['fits', '0123456789']] as const) {
        const first = await deliver(`${url}/${path}`, message({ id: `long ${path}` }))
        t.not(first.text, '')
        await settled(async () => (await deliver(`${url}/${path}`, message({ id: `long ${path}` }))).isReplayed)
        const again = await deliver(`${url}/${path}`, message({ id: `long ${path}` }))
        t.strictSame([again.status, again.text, again.headers.get('x-own')], [201, expected, 'yes'], path)
        t.equal(again.headers.get('content-length'), String(expected.length))
      }
      t.equal(runs(), 3)
    })

    t.test('what is kept expires', async (t) => {
      const { url, runs } = await countingBot(t, { storage: open(), once: { ttl: 1 } })
      await deliver(url, message({ id: 'expiring' }))
      await deliver(url, message({ id: 'expiring' }))
      t.equal(runs(), 1)
      await wait(1100)
      await deliver(url, message({ id: 'expiring' }))
      t.equal(runs(), 2)
    })

    t.test('a delivery waits for another one no longer than maxWait', async (t) => {
      const { app, url } = await countingBot(t, { storage: open(), once: { maxWait: 100 } }, (app) => {
        app.post('/slow', async () => wait(400))
      })
      const first = deliver(`${url}/slow`, message({ id: 'slow' }))
      await settled(() => app.botasState.stats.openTurns === 1)
      const second = await deliver(`${url}/slow`, message({ id: 'slow' }))
      t.strictSame([second.status, second.headers.get('retry-after'), JSON.parse(second.text).code], [503, '1', 'FST_BOTAS_STATE_BUSY'])
      t.equal((await first).status, 200)
    })

    t.test('of a replaced turn the reply is kept: its activity is done', async (t) => {
      const { app, url, runs } = await countingBot(t, { storage: open(), concurrency: 'replace' }, (app, count) => {
        app.post<{ Body: { text: string } }>('/model', async ({ body: { text }, state }) => {
          count()
          if (text === 'long') await new Promise((resolve) => state.signal.addEventListener('abort', resolve))
          else state.conversation.set('said', text)
          return { text: state.signal.aborted ? 'Never mind.' : text }
        })
      })
      const first = deliver(`${url}/model`, message({ id: 'replaced', text: 'long' }))
      await settled(() => runs() === 1)
      t.equal((await deliver(`${url}/model`, message({ id: 'replacing', text: 'short' }))).text, '{"text":"short"}')
      t.equal((await first).text, '{"text":"Never mind."}')
      await settled(() => app.botasState.stats.openTurns === 0)
      const again = await deliver(`${url}/model`, message({ id: 'replaced', text: 'long' }))
      t.strictSame([again.isReplayed, again.text, runs()], [true, '{"text":"Never mind."}', 2])
    })

    t.test('run handles an activity once, and gives its result again', async (t) => {
      const { app } = await countingBot(t, { storage: open() })
      let runs = 0
      const remind = (activityId: string, work: () => unknown = () => ({ at: new Date(0) })) => app.botasState.run({ ...IDENTITY, activityId }, async () => {
        runs++
        await wait(10)
        return work()
      })
      const [first, ...others] = await Promise.all([remind('reminder'), remind('reminder'), remind('reminder')])
      t.strictSame(first, { at: new Date(0) })
      t.strictSame(others, [{ at: '1970-01-01T00:00:00.000Z' }, { at: '1970-01-01T00:00:00.000Z' }])
      t.equal(runs, 1)
      await t.rejects(remind('failing', () => { throw new Error('no') }), /no/)
      t.equal(await remind('failing', () => undefined), undefined)
      t.equal(await remind('failing'), undefined)
      t.equal(await remind('too long', () => 'x'.repeat(20_000)), 'x'.repeat(20_000))
      t.equal(await remind('too long'), undefined)
      const circular: Record<string, unknown> = {}
      circular.itself = circular
      t.equal(await remind('circular', () => circular), circular)
      t.equal(await remind('circular'), undefined)
      t.equal(runs, 5)
    })
  })
}

t.test('a bad activity id is refused, and only where activities are handled once', async (t) => {
  for (const once of [true, false]) {
    const { url, app } = await countingBot(t, { once })
    t.equal((await deliver(url, message({ id: 7 }))).status, once ? 400 : 200)
    await t.rejects(app.botasState.run({ ...IDENTITY, activityId: 'a\nb' }, () => {}), { code: 'FST_BOTAS_STATE_INVALID_ID', message: /activityId/ })
  }
})

t.test('identify chooses the id of the activity, also before the body is there', async (t) => {
  const { url, runs } = await countingBot(t, {
    identify: ({ headers, body }) => ({ ...IDENTITY, activityId: headers['x-id'] as string ?? (body as { key?: string } | null)?.key })
  }, (app, count) => {
    app.post('/header', async () => count())
  })
  const withHeader = (id: string) => fetch(`${url}/header`, { method: 'POST', headers: { 'x-id': id } })
  await withHeader('1')
  t.equal((await withHeader('1')).headers.get('botas-state'), 'replayed')
  await deliver(url, { key: '2', text: 'another' })
  t.equal((await deliver(url, { key: '2', text: 'another' })).isReplayed, true)
  await deliver(url, { id: '3' })
  t.equal((await deliver(url, { id: '3' })).isReplayed, true)
  t.equal(runs(), 3)
})

t.test('a storage that cannot is refused at registration, by name', async (t) => {
  class Elsewhere extends MemoryStorage {
    override async read (keys: string[]) {
      return super.read(keys)
    }
  }
  await t.rejects(async () => { await Fastify().register(botasState, { storage: new Elsewhere(), once: true }) }, {
    code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /Elsewhere/
  })
})

t.test('hooks of a delivery that is not handled may read the state, and are told that it takes no changes', async (t) => {
  const seen: unknown[] = []
  const { app, url } = await countingBot(t, {}, (app) => {
    app.addHook('onSend', async ({ state }, reply, payload) => {
      seen.push([state.conversation.isAvailable, state.conversation.get('n')])
      if (reply.getHeader('botas-state') === undefined) return
      t.throws(() => state.conversation.set('n', 3), { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /reply of an earlier one/ })
      state.conversation.get<number[]>('list')?.push(2)
    })
    app.post('/seen', async ({ state }) => {
      state.conversation.set('list', [1])
      return { n: state.conversation.update<number>('n', (n = 0) => n + 1) }
    })
  })
  await deliver(`${url}/seen`, message())
  await deliver(`${url}/seen`, message())
  t.strictSame(seen, [[true, 1], [true, 1]])
  t.strictSame(await app.botasState.run(IDENTITY, ({ conversation }) => conversation.toJSON()), { list: [1], n: 1 })
})
