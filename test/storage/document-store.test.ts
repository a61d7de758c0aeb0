import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import { CONVERSATION_KEY, USER_KEY, message } from '../helpers/activities.js'
import { buildFastify, post } from '../helpers/build-fastify.js'
import { RecordingStorage, wholeDocuments } from '../helpers/recording-storage.js'

t.test('a storage without update holds whole documents, and the last write wins', async (t) => {
  const storage = new RecordingStorage()
  await storage.store(CONVERSATION_KEY, { kept: 1 })
  await storage.store(USER_KEY, { gone: 1 })
  const { app, url } = await buildFastify(t, { storage: wholeDocuments(storage), flush: 'onSend' }, (app) => {
    app.post('/', async ({ state: { conversation, user } }) => {
      conversation.set('n', 1)
      user.clear()
      return {}
    })
  })
  t.equal((await post(url, message())).status, 200)
  t.strictSame(await storage.stored(CONVERSATION_KEY), { kept: 1, n: 1 })
  t.equal(await storage.stored(USER_KEY), undefined)
  t.strictSame(storage.calls.map(([method]) => method), ['read', 'write', 'delete'])
  await app.close()
})

t.test('a storage without update that fails half-way says what was saved', async (t) => {
  const storage = new RecordingStorage()
  await storage.store(USER_KEY, { gone: 1 })
  storage.failures.delete = new Error('disk full')
  const { url } = await buildFastify(t, { storage: wholeDocuments(storage), flush: 'onSend' }, (app) => {
    app.post('/', async ({ state: { conversation, user } }) => {
      conversation.set('n', 1)
      user.clear()
    })
  })
  t.match((await post(url, message())).body, {
    code: 'FST_BOTAS_STATE_SAVE_FAILED', message: `saved: "${CONVERSATION_KEY}"; not known to be saved: "${USER_KEY}"`
  })
})

t.test('a given-up flush of whole documents does not go on later', async (t) => {
  const storage = new RecordingStorage()
  await storage.store(USER_KEY, { gone: 1 })
  storage.latency.write = 60
  const { url } = await buildFastify(t, { storage: wholeDocuments(storage), flush: 'onSend', flushTimeout: 20 }, (app) => {
    app.post('/', async ({ state: { conversation, user } }) => {
      conversation.set('n', 1)
      user.clear()
    })
  })
  t.match((await post(url, message())).body, { code: 'FST_BOTAS_STATE_SAVE_FAILED' })
  await wait(100)
  t.equal(storage.count('delete'), 0)
})
