import { once } from 'node:events'
import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import { CONVERSATION_KEY, message } from '../helpers/activities.js'
import { buildFastify, settled } from '../helpers/build-fastify.js'
import { gate, httpPost, openSocket } from '../helpers/raw-client.js'
import { RecordingStorage } from '../helpers/recording-storage.js'

t.test('pipelined requests whose client disconnects are all saved, in one listener per connection', async (t) => {
  const storage = new RecordingStorage()
  const goOn = gate()
  const seen = new Set<string>()
  const { app, port } = await buildFastify(t, { storage }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body, state }) => {
      state.conversation.set(body.text, true)
      seen.add(body.text)
      if (Number(body.text) % 2 === 0) await goOn.opened
      state.user.set(body.text, true)
      return Number(body.text) % 3 === 0 ? undefined : {}
    })
  })
  const warnings: Error[] = []
  const warned = (warning: Error) => warnings.push(warning)
  process.on('warning', warned)
  t.teardown(() => process.off('warning', warned))
  const closed = gate()
  app.server.once('connection', (socket) => socket.once('close', closed.open))
  const socket = await openSocket(port)
  const texts = Array.from({ length: 20 }, (_, index) => String(index))
  socket.write(texts.map((text) => httpPost('/', message({ text, conversation: text, user: text }))).join(''))
  await settled(() => seen.size === texts.length)
  socket.destroy()
  await closed.opened
  goOn.open()
  await wait(20)
  await app.close()
  for (const text of texts) {
    t.strictSame(await storage.stored(`test/bot/conversations/${text}`), { [text]: true })
    t.strictSame(await storage.stored(`test/bot/users/${text}`), { [text]: true })
  }
  t.strictSame(warnings, [])
})

for (const flush of ['onResponse', 'onSend'] as const) {
  t.test(`a pipelined request that is being served when its client disconnects is saved once, flush: ${flush}`, async (t) => {
    const storage = new RecordingStorage()
    const reached = gate()
    const { app, log, port } = await buildFastify(t, { storage, flush }, (app) => {
      app.post<{ Body: { text: string } }>('/', async ({ body, state }) => {
        if (body.text === 'second') {
          await wait(50)
          reached.open()
          await wait(50)
        }
        state.conversation.set(body.text, true)
        return {}
      })
    })
    storage.failures.update = new Error('disk full')
    const socket = await openSocket(port)
    socket.write(['first', 'second'].map((text) => httpPost('/', message({ text }))).join(''))
    await reached.opened
    socket.destroy()
    await wait(80)
    await app.close()
    t.equal(storage.count('update'), 2)
    t.equal(log.length, 2, 'each failure is reported once')
  })
}

t.test('pipelined requests of a patient client are all saved', async (t) => {
  const storage = new RecordingStorage()
  const { app, port } = await buildFastify(t, { storage }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body, state }) => {
      await wait(20 - Number(body.text))
      state.conversation.set(body.text, true)
      return {}
    })
  })
  const socket = await openSocket(port)
  const texts = Array.from({ length: 20 }, (_, index) => String(index))
  socket.write(texts.map((text) => httpPost('/', message({ text }))).join(''))
  let answer = ''
  while (answer.split('HTTP/1.1 200').length <= texts.length) answer += (await once(socket, 'data'))[0]
  await app.close()
  t.strictSame(Object.keys(await storage.stored(CONVERSATION_KEY) ?? {}).length, texts.length)
})
