import t from 'tap'
import { CONVERSATION_KEY, USER_KEY, message } from '../helpers/activities.js'
import { buildFastify, post } from '../helpers/build-fastify.js'
import { RecordingStorage } from '../helpers/recording-storage.js'

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
