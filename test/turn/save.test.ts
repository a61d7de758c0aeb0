import t from 'tap'
import { CONVERSATION_KEY, USER_KEY, message } from '../helpers/activities.js'
import { buildFastify, post, settled } from '../helpers/build-fastify.js'
import { RecordingStorage } from '../helpers/recording-storage.js'

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
