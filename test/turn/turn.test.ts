import Fastify from 'fastify'
import t from 'tap'
import botasState, { MemoryStorage, type TurnIdentity } from '../../lib/index.js'
import { CONVERSATION_KEY, USER_KEY, message, recorded } from '../helpers/activities.js'
import { buildFastify, listen, post, settled } from '../helpers/build-fastify.js'
import { RecordingStorage } from '../helpers/recording-storage.js'

const identity: TurnIdentity = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1', userId: 'user-1' }

t.test('a conversation and a user are remembered from turn to turn', async (t) => {
  const storage = new RecordingStorage()
  const { url } = await buildFastify(t, { storage }, (app) => {
    app.post('/', async ({ state: { conversation, user, temp } }) => {
      const turn = conversation.update<number>('turnCount', (n) => (n ?? 0) + 1)
      const messages = user.update<number>('messages', (n) => (n ?? 0) + 1)
      temp.set('reply', `${turn}, ${messages}`)
      return { text: temp.get('reply') }
    })
  })
  t.strictSame((await post(url, message())).body, { text: '1, 1' })
  t.strictSame((await post(url, message())).body, { text: '2, 2' })
  t.strictSame((await post(url, message({ user: 'user-2' }))).body, { text: '3, 1' })
  t.strictSame((await post(url, message({ conversation: 'conversation-2' }))).body, { text: '1, 3' })
  t.strictSame((await post(url, { ...message(), channelId: 'other' })).body, { text: '1, 1' })
  t.strictSame((await post(url, { ...message(), recipient: { id: 'other' } })).body, { text: '1, 1' })
})

t.test('what a real chat client posts is remembered', async (t) => {
  const { url } = await buildFastify(t, {}, (app) => {
    app.post('/', async ({ state: { conversation } }) => ({ n: conversation.update<number>('n', (n = 0) => n + 1) }))
  })
  t.strictSame((await post(url, recorded('personal-conversation-update'))).body, { n: 1 })
  t.strictSame((await post(url, recorded('personal-message'))).body, { n: 2 })
  t.strictSame((await post(url, recorded('channel-conversation-update'))).body, { n: 1 })
})

t.test('with an activity in the body, temp works from onRequest on and the rest from preValidation on', async (t) => {
  const seen: string[] = []
  const { url } = await buildFastify(t, {}, (app) => {
    app.addHook('onRequest', async ({ state }) => {
      state.temp.set('seen', ['onRequest'])
      const error = t.throws(() => state.conversation.get('n'))
      t.match(error, { code: 'FST_BOTAS_STATE_NOT_LOADED', statusCode: 500, message: /preValidation/ })
      t.match(t.throws(() => state.user.set('n', 1)), { code: 'FST_BOTAS_STATE_NOT_LOADED' })
    })
    for (const hook of ['preValidation', 'preHandler'] as const) {
      app.addHook(hook, async ({ state }) => {
        state.temp.get<string[]>('seen')?.push(hook)
        state.conversation.set(hook, true)
      })
    }
    app.post('/', async ({ state }) => {
      seen.push(...state.temp.get<string[]>('seen') ?? [])
      return state.conversation.keys()
    })
  })
  t.strictSame((await post(url, message())).body, ['preValidation', 'preHandler'])
  t.strictSame(seen, ['onRequest', 'preValidation', 'preHandler'])
})

t.test('identify may answer in onRequest, and is then not asked again', async (t) => {
  let asked = 0
  const storage = new RecordingStorage()
  const { url } = await buildFastify(t, {
    storage,
    identify: async ({ params }) => {
      asked++
      const { chat, user } = params as { chat: string, user: string }
      return { channelId: 'test', botId: 'bot', conversationId: chat, userId: user }
    }
  }, (app) => {
    app.addHook('onRequest', async ({ state }) => { state.conversation.set('early', true) })
    app.get('/:chat/:user', async ({ state }) => state.conversation.keys())
  })
  const response = await fetch(`${url}/conversation-1/user-1`)
  t.strictSame(await response.json(), ['early'])
  t.equal(asked, 1)
  t.strictSame(storage.calls[0], ['read', [CONVERSATION_KEY, USER_KEY]])
})

t.test('identify is asked twice at most, and a request that it cannot tell is no turn', async (t) => {
  let asked = 0
  const storage = new RecordingStorage()
  const { url } = await buildFastify(t, { storage, identify: () => { asked++; return undefined } }, (app) => {
    app.post('/', async ({ state }) => {
      t.match(t.throws(() => state.conversation.get('n')), { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /identify/ })
      return {}
    })
  })
  t.equal((await post(url, message())).status, 200)
  t.equal(asked, 2)
  t.strictSame(storage.calls, [])
})

t.test('null from identify is no turn, what is no object is refused, and any promise is awaited', async (t) => {
  const { url: none } = await buildFastify(t, { identify: () => null }, (app) => app.post('/', async () => ({})))
  t.equal((await post(none, message())).status, 200)
  const { url: text } = await buildFastify(t, { identify: () => 'me' as unknown as TurnIdentity }, (app) => app.post('/', async () => ({})))
  t.match((await post(text, message())).body, { statusCode: 400, code: 'FST_BOTAS_STATE_INVALID_ID', message: /"identity".*a string/ })
  const thenable = { then: (resolve: (value: TurnIdentity) => void) => resolve(identity) } as unknown as Promise<TurnIdentity>
  const { url: own } = await buildFastify(t, { identify: () => thenable }, (app) => {
    app.post('/', async ({ state }) => state.conversation.keys())
  })
  t.match(await post(own, message()), { status: 200, body: [] })
})

t.test('an identify that throws or rejects fails the request with its error', async (t) => {
  for (const identify of [() => { throw new Error('no identity') }, async () => { throw new Error('no identity') }]) {
    const { url } = await buildFastify(t, { identify }, (app) => app.post('/', async () => ({})))
    const { status, body } = await post(url, message())
    t.equal(status, 500)
    t.equal(body.message, 'no identity')
  }
})

t.test('ids that identify gives are checked as well', async (t) => {
  const bad = { ...identity, userId: 7 as unknown as string }
  const { app, url } = await buildFastify(t, { identify: () => bad }, (app) => app.post('/', async () => ({})))
  const { status, body } = await post(url, message())
  t.equal(status, 400)
  t.match(body, { code: 'FST_BOTAS_STATE_INVALID_ID', message: /"userId".*a number/ })
  await app.close()
})

t.test('a turn may have only one of the two persisted scopes, or none', async (t) => {
  const storage = new RecordingStorage()
  const { url } = await buildFastify(t, { storage }, (app) => {
    app.post<{ Querystring: { use: 'conversation' | 'user' } }>('/', async ({ state, query }) => {
      state.setValue(`${query.use}.n`, 1)
      return {}
    })
  })
  const withoutUser = { ...message(), from: undefined }
  const withoutConversation = { ...message(), conversation: undefined }
  t.equal((await post(`${url}/?use=conversation`, withoutUser)).status, 200)
  t.equal((await post(`${url}/?use=user`, withoutConversation)).status, 200)
  await settled(() => storage.count('update') === 2)
  t.match((await post(`${url}/?use=user`, withoutUser)).body, { code: 'FST_BOTAS_STATE_NOT_A_TURN', statusCode: 400, message: /user state.*from\.id$/ })
  t.match((await post(`${url}/?use=conversation`, withoutConversation)).body, { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /conversation state.*conversation\.id$/ })
  t.match((await post(`${url}/?use=user`, { ...withoutUser, conversation: {} })).body, { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /from\.id$/ })
  t.strictSame(storage.calls.filter(([method]) => method === 'read').map(([, keys]) => keys), [[CONVERSATION_KEY], [USER_KEY], [CONVERSATION_KEY], [USER_KEY]])
})

t.test('with flush onSend the state is stored before the reply is there', async (t) => {
  const storage = new RecordingStorage()
  storage.latency.update = 30
  const { url } = await buildFastify(t, { storage, flush: 'onSend' }, (app) => {
    app.post('/', async ({ state }) => { state.conversation.set('n', 1) })
  })
  await post(url, message())
  t.strictSame(await storage.stored(CONVERSATION_KEY), { n: 1 })
})

t.test('with flush onSend a failed save becomes a 500, and the hooks run for it', async (t) => {
  const storage = new RecordingStorage()
  storage.failures.update = new Error('disk full')
  const { url, log } = await buildFastify(t, { storage, flush: 'onSend' }, (app) => {
    app.post('/', async ({ state }) => { state.conversation.set('secret', 'hunter2') })
  })
  const { status, body } = await post(url, message())
  t.equal(status, 500)
  t.match(body, { code: 'FST_BOTAS_STATE_SAVE_FAILED', message: `saved: none; not known to be saved: "${CONVERSATION_KEY}"` })
  await new Promise((resolve) => setTimeout(resolve, 20))
  t.equal(log.length, 1, 'it is reported once')
  t.match(log, [{ level: 50, err: { code: 'FST_BOTAS_STATE_SAVE_FAILED', message: /disk full/ } }])
  t.notMatch(JSON.stringify([body, log]), /hunter/)
})

t.test('with flush onResponse a failed save is logged with its code and keys', async (t) => {
  const storage = new RecordingStorage()
  storage.failures.update = (key) => key === USER_KEY ? new Error('disk full') : undefined
  const { url, log } = await buildFastify(t, { storage }, (app) => {
    app.post('/', async ({ state }) => {
      state.conversation.set('secret', 'hunter2')
      state.user.set('secret', 'hunter2')
      return {}
    })
  })
  t.equal((await post(url, message())).status, 200)
  await settled(() => log.length > 0)
  t.match(log, [{
    level: 50,
    reqId: /./,
    code: 'FST_BOTAS_STATE_SAVE_FAILED',
    keys: [CONVERSATION_KEY, USER_KEY],
    err: { message: `saved: "${CONVERSATION_KEY}"; not known to be saved: "${USER_KEY}"` }
  }])
  t.notMatch(JSON.stringify(log), /hunter/)
})

t.test('all scopes are encoded before any is written', async (t) => {
  const storage = new RecordingStorage()
  const { url, log } = await buildFastify(t, { storage }, (app) => {
    app.post('/', async ({ state }) => {
      state.conversation.set('fine', 1)
      const map: Record<string, unknown> = {}
      state.user.set('map', map)
      map.late = new Set()
      return {}
    })
  })
  await post(url, message())
  await settled(() => log.length > 0)
  t.match(log, [{ code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE', err: { message: /"map" in the user state.*a Set/ } }])
  t.equal(storage.count('update'), 0)
})

t.test('a load that fails fails the turn and says why', async (t) => {
  const storage = new RecordingStorage()
  storage.failures.read = new Error('no route to host')
  const { url, log } = await buildFastify(t, { storage }, (app) => {
    app.setErrorHandler(async (error, { state }, reply) => {
      t.equal(t.throws(() => state.conversation.get('n')) as unknown, error, 'the state repeats it')
      return reply.send(error)
    })
    app.post('/', async () => t.fail('the handler must not run'))
  })
  const { status, body } = await post(url, message())
  t.equal(status, 500)
  t.match(body, { code: 'FST_BOTAS_STATE_LOAD_FAILED', message: `"${CONVERSATION_KEY}", "${USER_KEY}"` })
  t.match(log, [{ err: { message: /no route to host/ } }], 'the cause is in the log')
})

t.test('a load that is too slow fails the turn, and its late answer is ignored', async (t) => {
  const storage = new RecordingStorage()
  storage.latency.read = 100
  const { app, url, log } = await buildFastify(t, { storage, loadTimeout: 20 }, (app) => {
    app.post('/', async () => t.fail('the handler must not run'))
  })
  const { status, body } = await post(url, message())
  t.equal(status, 500)
  t.match(body, { code: 'FST_BOTAS_STATE_LOAD_FAILED' })
  t.match(log, [{ err: { message: /no answer within 20 ms/ } }])
  await app.close()
  t.equal(storage.count('update'), 0)
})

t.test('state that is still being loaded is not there yet', async (t) => {
  const storage = new RecordingStorage()
  storage.latency.read = 40
  const errors: unknown[] = []
  const { url } = await buildFastify(t, { storage }, (app) => {
    app.addHook('onRequest', (request, _reply, done) => {
      setTimeout(() => { errors.push(t.throws(() => request.state.conversation.get('n'))) }, 20)
      done()
    })
    app.post('/', async ({ state }) => ({ n: state.conversation.get('n') ?? null }))
  })
  t.match(await post(url, message()), { status: 200, body: { n: null } })
  t.match(errors, [{ code: 'FST_BOTAS_STATE_NOT_LOADED' }])
})

t.test('a load that waited too long for a flush does not ask the storage any more', async (t) => {
  const storage = new RecordingStorage()
  storage.latency.update = 100
  const { app, url } = await buildFastify(t, { storage, loadTimeout: 20 }, (app) => {
    app.post('/', async ({ state }) => { state.conversation.set('n', 1) })
  })
  t.equal((await post(url, message())).status, 200)
  t.match((await post(url, message())).body, { code: 'FST_BOTAS_STATE_LOAD_FAILED' })
  await app.close()
  t.equal(storage.count('read'), 1)
})

t.test('a flush that is too slow is given up and reported, and does not succeed later', async (t) => {
  const storage = new RecordingStorage()
  storage.latency.update = 100
  const { app, url, log } = await buildFastify(t, { storage, flushTimeout: 20 }, (app) => {
    app.post('/', async ({ state }) => { state.conversation.set('n', 1) })
  })
  await post(url, message())
  await settled(() => log.length > 0)
  t.match(log, [{ code: 'FST_BOTAS_STATE_SAVE_FAILED', err: { message: /no answer within 20 ms/ } }])
  await app.close()
  await new Promise((resolve) => setTimeout(resolve, 150))
  t.equal(await storage.stored(CONVERSATION_KEY), undefined)
})

t.test('a stored document that is no object fails the turn that touches it and is not overwritten', async (t) => {
  for (const document of [['hunter2'], 'hunter2', null]) {
    const written: unknown[] = []
    const storage = {
      read: async () => ({ [CONVERSATION_KEY]: document }),
      write: async (changes: unknown) => { written.push(changes) },
      delete: async (keys: unknown) => { written.push(keys) }
    }
    const { url } = await buildFastify(t, { storage }, (app) => app.post('/', async ({ state }) => { state.conversation.set('n', 1) }))
    const { status, body } = await post(url, message())
    t.equal(status, 500)
    t.match(body, { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT', message: CONVERSATION_KEY })
    t.notMatch(body.message, /hunter/)
    t.strictSame(written, [])
  }
})

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

t.test('a route that was declared before the plugin was loaded has state too', async (t) => {
  const storage = new RecordingStorage()
  const lines: string[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { lines.push(line) } } } })
  t.teardown(() => app.close())
  app.register(botasState, { storage, flush: 'onSend' })
  app.post('/', async ({ state }) => ({ n: state.conversation.update<number>('n', (n) => (n ?? 0) + 1) }))
  app.get('/health', async () => ({}))
  const { url } = await listen(app)
  t.strictSame((await post(url, message())).body, { n: 1 })
  t.strictSame((await post(url, message())).body, { n: 2 })
  await fetch(`${url}/health`)
  t.strictSame(await storage.stored(CONVERSATION_KEY), { n: 2 })
  t.strictSame(lines, [], 'there is nothing to warn of')
})

t.test('a bare storage can stand for the options', async (t) => {
  const storage = new MemoryStorage()
  const app = Fastify()
  await app.register(botasState, storage)
  t.equal(app.botasState.storage, storage)
  await app.botasState.run(identity, (state) => state.user.set('n', 1))
  t.strictSame(await storage.read([USER_KEY]), { [USER_KEY]: { n: 1 } })
  await app.close()
})
