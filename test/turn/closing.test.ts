import type { Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import Fastify from 'fastify'
import t from 'tap'
import botasState, { FileStorage } from '../../lib/index.js'
import { CONVERSATION_KEY, message } from '../helpers/activities.js'
import { buildFastify, post } from '../helpers/build-fastify.js'
import { protocols } from '../helpers/client.js'
import { startProcess } from '../helpers/node-process.js'
import { gate, httpPost, openSocket } from '../helpers/raw-client.js'
import { RecordingStorage } from '../helpers/recording-storage.js'

const identity = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1' }

for (const forceCloseConnections of [false, true]) {
  for (const phase of ['load', 'handler', 'flush'] as const) {
    t.test(`closing the server in the middle of a ${phase} does not lose the turn, forceCloseConnections: ${forceCloseConnections}`, async (t) => {
      const storage = new RecordingStorage()
      const reached = gate()
      if (phase === 'load') storage.latency.read = 60
      if (phase === 'flush') storage.latency.update = 60
      const { app, port } = await buildFastify(t, { storage }, (app) => {
        app.addHook('onRequest', async () => { reached.open() })
        app.post('/', async ({ state }) => {
          if (phase === 'handler') await wait(60)
          state.conversation.set('kept', true)
          return {}
        })
      }, { forceCloseConnections })
      const socket = await openSocket(port)
      socket.write(httpPost('/', message(), 'close'))
      await reached.opened
      await wait(20)
      await app.close()
      t.strictSame(await storage.stored(CONVERSATION_KEY), { kept: true })
      t.strictSame(storage.calls.at(-1), ['close', []], 'the storage is closed last')
      t.equal(storage.count('close'), 1)
      socket.destroy()
    })
  }
}

t.test('closing the server waits for inject and run', async (t) => {
  const storage = new RecordingStorage()
  storage.latency.update = 30
  const { app } = await buildFastify(t, { storage }, (app) => {
    app.post('/', async ({ state }) => {
      await wait(30)
      state.conversation.set('inject', true)
      return {}
    })
  })
  const inject = app.inject({ method: 'POST', url: '/', payload: message() })
  const run = app.botasState.run(identity, async ({ conversation }) => {
    await wait(50)
    conversation.set('run', true)
  })
  await wait(10)
  await app.close()
  t.strictSame(await storage.stored(CONVERSATION_KEY), { inject: true, run: true })
  await Promise.all([inject, run])
})

t.test('closing the server waits no longer than a flush may take', async (t) => {
  const storage = new RecordingStorage()
  const goOn = gate()
  const { app, log } = await buildFastify(t, { storage, flushTimeout: 50 }, () => {})
  const run = app.botasState.run(identity, ({ conversation }) => {
    conversation.set('n', 1)
    return goOn.opened
  })
  await wait(5)
  const before = Date.now()
  await app.close()
  t.ok(Date.now() - before < 5000)
  t.equal(storage.count('close'), 1)
  t.match(log, [{ level: 40, turns: 1 }])
  goOn.open()
  await run
})

t.test('a storage that does not close is given up and said', async (t) => {
  const storage = Object.assign(new RecordingStorage(), { close: () => new Promise<void>(() => {}) })
  const app = Fastify()
  await app.register(botasState, { storage, flushTimeout: 50 })
  await t.rejects(app.close(), { message: /no answer within 50 ms/ })
})

t.test('a storage that two instances share is closed by the last of them, after its turns', async (t) => {
  const storage = new RecordingStorage()
  const app = Fastify()
  for (const name of ['one', 'two']) {
    app.register(async (scope) => {
      await scope.register(botasState, { storage })
      scope.post(`/${name}`, async ({ state }) => {
        await new Promise((resolve) => setTimeout(resolve, 50))
        state.conversation.set(name, true)
        return {}
      })
    })
  }
  await app.ready()
  const turns = ['one', 'two'].map((name) => app.inject({ method: 'POST', url: `/${name}`, payload: message() }))
  await new Promise((resolve) => setTimeout(resolve, 20))
  await app.close()
  await Promise.all(turns)
  t.strictSame(await storage.stored(CONVERSATION_KEY), { one: true, two: true })
  t.equal(storage.count('close'), 1)
  t.strictSame(storage.calls.at(-1), ['close', []])
})

t.test('a server that never had a turn closes at once', async (t) => {
  const storage = new RecordingStorage()
  const { app } = await buildFastify(t, { storage }, () => {})
  await app.close()
  t.strictSame(storage.calls, [['close', []]])
})

t.test('turns leave no listener on a connection that is kept alive', async (t) => {
  const { app, port } = await buildFastify(t, {}, (app) => {
    app.post('/', async ({ state }) => ({ n: state.conversation.update<number>('n', (n = 0) => n + 1) }))
  })
  let socket: Socket | undefined
  app.server.once('connection', (connection: Socket) => { socket = connection })
  const client = await protocols['HTTP/1.1'].connect(t, port)
  const listeners = () => socket?.eventNames().map((name) => [name, socket?.listenerCount(name)])
  await client.say(message())
  await wait(5)
  const before = listeners()
  for (let turn = 0; turn < 50; turn++) await client.say(message())
  await wait(5)
  t.strictSame(listeners(), before)
})

t.test('nothing is open when the last turn is over', async (t) => {
  const storage = new RecordingStorage()
  const { app, url } = await buildFastify(t, { storage }, (app) => {
    app.post('/', async ({ state }) => { state.conversation.set('n', 1) })
  })
  await post(url, message())
  await post(url, { ...message(), channelId: 7 })
  storage.failures.read = new Error('no')
  await post(url, message())
  const before = Date.now()
  await app.close()
  t.ok(Date.now() - before < 1000)
})

t.test('SIGTERM in the middle of a turn does not lose it', { jobs: 3 }, async (t) => {
  for (const force of [false, true]) {
    for (const phase of ['load', 'handler', 'flush']) {
      t.test(`in the middle of a ${phase}, forceCloseConnections: ${force}`, { buffered: true }, async (t) => {
        const directory = t.testdir()
        const { child, lines, exited } = startProcess(t, 'slow-bot.js', directory, phase, String(force))
        const socket = await openSocket(Number((await lines.next()).value))
        socket.write(httpPost('/', message(), 'close'))
        t.equal((await lines.next()).value, phase)
        await wait(50)
        child.kill('SIGTERM')
        t.strictSame(await exited, { code: 0, signal: null, errors: '' })
        t.strictSame(await new FileStorage(directory).read([CONVERSATION_KEY]), { [CONVERSATION_KEY]: { kept: true } })
        socket.destroy()
      })
    }
  }
})
