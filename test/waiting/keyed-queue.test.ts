import Fastify from 'fastify'
import t from 'tap'
import botasState from '../../lib/index.js'
import { message } from '../helpers/activities.js'
import { listen, post } from '../helpers/build-fastify.js'
import { RecordingStorage } from '../helpers/recording-storage.js'

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
