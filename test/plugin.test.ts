import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import botasState, { type TurnIdentity, MemoryStorage } from '../lib/index.js'
import { CONVERSATION_KEY, USER_KEY, message } from './helpers/activities.js'
import { listen, post } from './helpers/build-fastify.js'
import { RecordingStorage } from './helpers/recording-storage.js'

const identity: TurnIdentity = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1', userId: 'user-1' }

t.test('a bare storage can stand for the options', async (t) => {
  const storage = new MemoryStorage()
  const app = Fastify()
  await app.register(botasState, storage)
  t.equal(app.botasState.storage, storage)
  await app.botasState.run(identity, (state) => state.user.set('n', 1))
  t.strictSame(await storage.read([USER_KEY]), { [USER_KEY]: { n: 1 } })
  await app.close()
})

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

t.test('registering twice in one scope is refused', async (t) => {
  const app = Fastify()
  app.register(botasState)
  app.register(botasState)
  await t.rejects(async () => app.ready(), { code: 'FST_ERR_DEC_ALREADY_PRESENT' })
})

t.test('who decorates requests with "state" as well is told what to do', async (t) => {
  const already = { code: 'FST_ERR_DEC_ALREADY_PRESENT' }
  const mine = Fastify()
  mine.decorateRequest('state' as 'mine', null)
  const anotherName = /another plugin or the application.*give that decorator another name/
  await t.rejects(async () => mine.register(botasState), { ...already, message: anotherName })
  const server = Fastify()
  server.decorate('botasState' as 'mine', null)
  await t.rejects(async () => server.register(botasState), { ...already, message: anotherName })

  const twice = Fastify()
  twice.register(botasState)
  twice.register(async (child: FastifyInstance) => { await child.register(botasState) })
  await t.rejects(async () => twice.ready(), { ...already, message: /registered here or in an enclosing scope already: register it once/ })
})
