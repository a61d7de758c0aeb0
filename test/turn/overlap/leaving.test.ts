import { Readable } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import type { BotasStateOptions, Storage } from '../../../lib/index.js'
import { message } from '../../helpers/activities.js'
import { type TestServer, buildFastify, post, settled } from '../../helpers/build-fastify.js'
import { LeasesOnly, LeasingStorage, newServer } from '../../helpers/leasing-storage.js'
import { onEachStorage, onceStorages } from '../../helpers/overlap-storages.js'
import { openSocket } from '../../helpers/raw-client.js'

const IDENTITY = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1' }

/** Two servers on one storage. */
async function servers (t: Test, open: () => Storage, options: BotasStateOptions, routes: (app: FastifyInstance) => void) {
  return await Promise.all([1, 2].map(() => buildFastify(t, { storage: open(), ...options }, routes))) as [TestServer, TestServer]
}

function isIdle ({ botasState: { stats } }: FastifyInstance): boolean {
  return stats.openTurns === 0 && stats.waitingTurns === 0
}

/** Answers a request by a timer, whatever it waits for. */
function answerEarly (app: FastifyInstance, milliseconds: number): void {
  app.addHook<{ Body: { text: string } }>('preParsing', async ({ headers }, reply) => {
    if (headers['x-early'] !== undefined) setTimeout(() => reply.code(202).send({ early: true }), milliseconds)
  })
}

const postEarly = (url: string, body: unknown) => fetch(url, {
  method: 'POST', headers: { 'content-type': 'application/json', 'x-early': 'yes' }, body: JSON.stringify(body)
}).then(({ status }) => status)

onEachStorage(t, 'a turn that is answered while it waits for its place takes none', async (t, open) => {
  let isAtWork = false
  const bots = await servers(t, open, { concurrency: { strategy: 'queue', maxWait: 3000, lease: 60_000 } }, (app) => {
    answerEarly(app, 50)
    app.post<{ Body: { text: string } }>('/', async ({ body: { text } }) => {
      if (text !== 'slow') return {}
      isAtWork = true
      return wait(300)
    })
  })
  for (const { url } of bots) {
    isAtWork = false
    const first = post(bots[0].url, message({ text: 'slow' }))
    await settled(() => isAtWork)
    t.equal(await postEarly(url, message({ text: 'early' })), 202)
    t.equal((await first).status, 200)
    for (const { url } of bots) t.equal((await post(url, message({ text: 'next' }))).status, 200)
  }
  await settled(() => bots.every(({ app }) => isIdle(app)))
})

onEachStorage(t, 'a turn that is answered before it is known takes no place', async (t, open) => {
  const { app, url } = await buildFastify(t, {
    storage: open(),
    concurrency: { strategy: 'queue', maxWait: 1000 },
    identify: async ({ headers }) => {
      if (headers['x-early'] !== undefined) await wait(600)
      return IDENTITY
    }
  }, (app) => { app.post('/', async () => ({})) }, { handlerTimeout: 300 })
  t.equal(await postEarly(url, message()), 503)
  await wait(500)
  t.equal((await post(url, message())).status, 200)
  await settled(() => isIdle(app))
})

for (const [name, make] of Object.entries(onceStorages)) {
  t.test(`a delivery that is answered while it waits for another one leaves the activity to the next: ${name}`, async (t) => {
    const open = await make(t)
    let runs = 0
    const bots = await servers(t, open, { once: { maxWait: 3000 }, concurrency: { lease: 60_000 } }, (app) => {
      answerEarly(app, 50)
      app.post('/', async () => {
        await wait(runs++ === 0 ? 300 : 0)
        if (runs === 1) throw new Error('the first one')
        return { runs }
      })
    })
    const first = post(bots[0].url, message({ id: 'a' }))
    await settled(() => runs === 1)
    t.strictSame(await Promise.all(bots.map(({ url }) => postEarly(url, message({ id: 'a' })))), [202, 202])
    t.equal((await first).status, 500)
    for (const { url } of bots) t.match(await post(url, message({ id: 'a' })), { status: 200, body: { runs: 2 } })
    await settled(() => bots.every(({ app }) => isIdle(app)))
  })
}

onEachStorage(t, 'a turn that works on after its reply, and is replaced, is not waited for', async (t, open) => {
  const { url } = await buildFastify(t, { storage: open(), concurrency: 'replace' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state }) => {
      if (text === 'first') state.waitUntil(wait(2000))
      return { text }
    })
  })
  t.equal((await post(url, message({ text: 'first' }))).status, 200)
  const begun = performance.now()
  t.equal((await post(url, message({ text: 'second' }))).status, 200)
  t.ok(performance.now() - begun < 1000)
})

onEachStorage(t, 'a turn that waitUntil keeps open keeps its place for longer than its lease', async (t, open) => {
  const [first, second] = await servers(t, open, { concurrency: { strategy: 'queue', lease: 800 } }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state }) => {
      if (text === 'first') state.waitUntil(wait(2400).then(() => state.conversation.set('late', true)))
      return { late: state.conversation.get('late') ?? false }
    })
  })
  t.equal((await post(first.url, message({ text: 'first' }))).status, 200)
  t.strictSame((await post(second.url, message({ text: 'second' }))).body, { late: true })
  t.equal(first.app.botasState.stats.leasesLost, 0)
})

t.test('a storage is not told to hold a place again that was given back', async (t) => {
  for (const Class of [LeasesOnly, LeasingStorage]) {
    const server = newServer()
    const { url } = await buildFastify(t, { storage: new Class(server, 10), flush: 'onSend', once: Class === LeasingStorage, concurrency: { strategy: 'replace', lease: 200 } }, (app) => {
      app.post('/', async ({ state: { conversation } }) => {
        await wait(Math.random() * 150)
        conversation.update<number>('n', (n = 0) => n + 1)
      })
    })
    for (let n = 0; n < 20; n++) {
      t.equal((await post(url, message({ id: String(n) }))).status, 200)
      t.strictSame([...server.leases.keys()], [], Class.name)
    }
  }
})

t.test('a place that cannot be given back fails no turn that was saved', async (t) => {
  for (const Class of [LeasesOnly, LeasingStorage]) {
    const server = newServer()
    const storage = new Class(server)
    const lease = storage.lease.bind(storage)
    storage.lease = async (...args) => {
      if (args[2] === 0) throw new Error('of the storage')
      return lease(...args)
    }
    const { app, url } = await buildFastify(t, { storage, flush: 'onSend', concurrency: 'queue' }, (app) => {
      app.post('/', async ({ state: { conversation } }) => conversation.update<number>('n', (n = 0) => n + 1))
    })
    for (let n = 1; n < 3; n++) t.match(await post(url, message()), { status: 200, text: String(n) })
    t.match(app.botasState.stats, { flushFailures: 0, leasesLost: 0 })
  }
})

t.test('a storage that hangs when a place is renewed is asked again in time', async (t) => {
  const server = newServer()
  const storage = new LeasingStorage(server)
  const lease = storage.lease.bind(storage)
  let calls = 0
  storage.lease = async (...args) => ++calls === 2 ? new Promise(() => {}) : lease(...args)
  const storages = [storage, new LeasingStorage(server)]
  const said: string[] = []
  const [first, second] = await servers(t, () => storages.shift() as Storage, { concurrency: { strategy: 'queue', lease: 600 } }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text } }) => {
      said.push(text)
      if (text === 'first') await wait(1500)
      said.push(text)
    })
  })
  const holding = post(first.url, message({ text: 'first' }))
  await settled(() => said.length === 1)
  t.equal((await post(second.url, message({ text: 'second' }))).status, 200)
  t.equal((await holding).status, 200)
  t.strictSame(said, ['first', 'first', 'second', 'second'])
  t.equal(first.app.botasState.stats.leasesLost, 0)
})

t.test('what streams over HTTP/1.0, without a length, is at work until it ends: it is replaced, and refuses others', async (t) => {
  for (const concurrency of ['replace', 'reject'] as const) {
    const { app, url, port } = await buildFastify(t, { concurrency }, (app) => {
      app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { signal } }) => text === 'second'
        ? {}
        : Readable.from((async function * () {
          for (let n = 0; n < 50 && !signal.aborted; n++) {
            yield 'token '
            await wait(10)
          }
        })()))
    })
    const socket = await openSocket(port)
    let answer = ''
    socket.on('data', (chunk) => { answer += chunk })
    const body = JSON.stringify(message({ text: 'first' }))
    socket.write(`POST / HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
    await settled(() => answer.includes('token'))
    t.equal((await post(url, message({ text: 'second' }))).status, concurrency === 'replace' ? 200 : 409)
    t.equal(app.botasState.stats.replacedTurns, concurrency === 'replace' ? 1 : 0)
    await settled(() => socket.destroyed)
  }
})

t.test('run by another instance of the plugin on the same storage shares the place, too', async (t) => {
  const storage = new LeasingStorage()
  const options = { storage, concurrency: { strategy: 'queue', maxWait: 500 } } as const
  const jobs = await buildFastify(t, options, () => {})
  const { url } = await buildFastify(t, options, (app) => {
    app.post('/', async () => jobs.app.botasState.run(IDENTITY, () => ({ shared: true })))
  })
  t.match(await post(url, message()), { status: 200, body: { shared: true } })
})

t.test('a failed turn that is replaced leaves no mark', async (t) => {
  let runs = 0
  const { app, url } = await buildFastify(t, { once: true, concurrency: 'replace' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state }) => {
      runs++
      if (text === 'long' && runs === 1) {
        state.fail()
        await new Promise((resolve) => state.signal.addEventListener('abort', resolve))
      }
      return { runs }
    })
  })
  const first = post(url, message({ id: 'a', text: 'long' }))
  await settled(() => runs === 1)
  t.equal((await post(url, message({ id: 'b', text: 'short' }))).status, 200)
  await first
  await settled(() => app.botasState.stats.openTurns === 0)
  t.strictSame((await post(url, message({ id: 'a', text: 'long' }))).body, { runs: 3 })
})
