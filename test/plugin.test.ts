import Fastify from 'fastify'
import t from 'tap'
import botasState from '../lib/index.js'
import { CONVERSATION_KEY, message } from './helpers/activities.js'
import { buildFastify, listen, post } from './helpers/build-fastify.js'
import { RecordingStorage } from './helpers/recording-storage.js'

t.test('two instances in sibling scopes do not see each other', async (t) => {
  const storages = { one: new RecordingStorage(), two: new RecordingStorage() }
  const app = Fastify({ forceCloseConnections: true })
  t.teardown(() => app.close())
  for (const [name, storage] of Object.entries(storages)) {
    app.register(async (scope) => {
      await scope.register(botasState, { storage })
      t.equal(scope.botasState.storage, storage)
      scope.post(`/${name}`, async ({ state }) => ({ n: state.conversation.update<number>('n', (n) => (n ?? 0) + 1) }))
    })
  }
  app.post('/outside', async (request) => ({ state: 'state' in request }))
  const { url } = await listen(app)
  t.strictSame((await post(`${url}/one`, message())).body, { n: 1 })
  t.strictSame((await post(`${url}/one`, message())).body, { n: 2 })
  t.strictSame((await post(`${url}/two`, message())).body, { n: 1 })
  t.strictSame((await post(`${url}/outside`, message())).body, { state: false })
  t.equal('botasState' in app, false)
  await app.close()
  t.strictSame(await storages.one.stored(CONVERSATION_KEY), { n: 2 })
  t.strictSame(await storages.two.stored(CONVERSATION_KEY), { n: 1 })
})

t.test('two instances on one storage wait for each other\'s flushes', async (t) => {
  const storage = new RecordingStorage()
  storage.latency.update = 20
  const app = Fastify({ forceCloseConnections: true })
  t.teardown(() => app.close())
  for (const name of ['one', 'two']) {
    app.register(async (scope) => {
      await scope.register(botasState, { storage })
      scope.post(`/${name}`, async ({ state }) => ({ n: state.conversation.update<number>('n', (n) => (n ?? 0) + 1) }))
    })
  }
  const { url } = await listen(app)
  for (let n = 1; n <= 6; n++) {
    t.strictSame((await post(`${url}/${n % 2 === 0 ? 'one' : 'two'}`, message())).body, { n })
  }
})

t.test('two storages on one directory find each other\'s writes', async (t) => {
  const directory = t.testdir()
  const app = Fastify({ forceCloseConnections: true })
  t.teardown(() => app.close())
  for (const name of ['one', 'two']) {
    app.register(async (scope) => {
      await scope.register(botasState, { storage: `file:${directory}` })
      scope.post(`/${name}`, async ({ state }) => {
        const n = (state.conversation.get<number>('n') ?? 0) + 1
        state.conversation.set('n', n)
        return { n }
      })
    })
  }
  const { url } = await listen(app)
  for (let n = 1; n <= 20; n++) {
    t.strictSame((await post(`${url}/${n % 2 === 0 ? 'one' : 'two'}`, message())).body, { n })
  }
  await app.close()
})

t.test('an impatient instance does not make a load overtake the flush of a patient one', async (t) => {
  const storage = new RecordingStorage()
  storage.latency.update = 100
  const app = Fastify({ forceCloseConnections: true })
  t.teardown(() => app.close())
  for (const [name, flushTimeout] of [['patient', 5000], ['impatient', 20]] as const) {
    app.register(async (scope) => {
      await scope.register(botasState, { storage, flushTimeout })
      scope.post(`/${name}`, async ({ state }) => ({ n: state.conversation.update<number>('n', (n = 0) => n + 1) }))
    })
  }
  const { url } = await listen(app)
  await Promise.all([post(`${url}/patient`, message()), post(`${url}/impatient`, message())])
  await new Promise((resolve) => setTimeout(resolve, 30))
  t.strictSame((await post(`${url}/patient`, message())).body, { n: 2 })
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

t.test('registering twice in one scope is refused', async (t) => {
  const app = Fastify()
  app.register(botasState)
  app.register(botasState)
  await t.rejects(async () => app.ready(), { code: 'FST_ERR_DEC_ALREADY_PRESENT' })
})

t.test('a request that is no turn touches no storage', async (t) => {
  const storage = new RecordingStorage()
  const { app, url } = await buildFastify(t, { storage }, (app) => {
    app.get('/health', async () => ({ fine: true }))
    app.get('/temp', async ({ state }) => {
      state.temp.set('n', 1)
      return state.temp.toJSON()
    })
    app.post('/webhook', async ({ state }) => state.conversation.keys())
    app.post('/', async ({ state }) => state.conversation.keys())
    app.setNotFoundHandler(async ({ state }, reply) => {
      state.temp.set('n', 1)
      t.match(t.throws(() => state.conversation.get('n')), { code: 'FST_BOTAS_STATE_NOT_A_TURN' })
      return reply.code(404).send({})
    })
  })
  t.strictSame(await (await fetch(`${url}/health`)).json(), { fine: true })
  t.strictSame(await (await fetch(`${url}/temp`)).json(), { n: 1 })
  t.equal((await fetch(`${url}/nowhere`)).status, 404)
  t.equal((await post(`${url}/nowhere`, message())).status, 404, 'not even with an activity')
  t.match((await post(`${url}/webhook`, { update_id: 1 })).body, {
    statusCode: 400, code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /channelId, recipient\.id, conversation\.id$/
  })
  t.strictSame(storage.calls, [])
  t.equal((await post(url, message())).status, 200)
  t.equal(storage.calls.length, 1)
  await app.close()
})

t.test('a 404 of an identify that needs no body is no turn either', async (t) => {
  const storage = new RecordingStorage()
  const identify = () => ({ channelId: 'c', botId: 'b', conversationId: 'x' })
  const { url } = await buildFastify(t, { storage, identify }, () => {})
  t.equal((await post(`${url}/nowhere`, message())).status, 404)
  t.strictSame(storage.calls, [])
})
