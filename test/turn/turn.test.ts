import t from 'tap'
import { CONVERSATION_KEY, USER_KEY, message } from '../helpers/activities.js'
import { buildFastify, post, settled } from '../helpers/build-fastify.js'
import { RecordingStorage } from '../helpers/recording-storage.js'

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
