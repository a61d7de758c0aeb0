import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import { CONVERSATION_KEY, message } from '../helpers/activities.js'
import { buildFastify, post, settled } from '../helpers/build-fastify.js'
import { RecordingStorage } from '../helpers/recording-storage.js'

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

t.test('a flush that waited too long behind another one is not begun', async (t) => {
  const storage = new RecordingStorage()
  storage.latency.update = 60
  const { app, url, log } = await buildFastify(t, { storage, flushTimeout: 90 }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation } }) => {
      await wait(20)
      conversation.set(text, true)
    })
  })
  await Promise.all(['1', '2', '3'].map((text) => post(url, message({ text }))))
  await app.close()
  t.ok(log.length >= 1)
  t.equal(Object.keys(await storage.stored(CONVERSATION_KEY) ?? {}).length, 3 - log.length)
})
