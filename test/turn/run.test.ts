import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import type { TurnState } from '../../lib/index.js'
import { CONVERSATION_KEY, USER_KEY, message } from '../helpers/activities.js'
import { buildFastify, post } from '../helpers/build-fastify.js'
import { RecordingStorage } from '../helpers/recording-storage.js'

const identity = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1', userId: 'user-1' }

t.test('a turn without a request loads, gives its result, and has saved when it resolves', async (t) => {
  const storage = new RecordingStorage()
  await storage.store(USER_KEY, { name: 'Ada' })
  const { app } = await buildFastify(t, { storage }, () => {})
  const greeting = await app.botasState.run(identity, async ({ conversation, user, temp }) => {
    await wait(1)
    conversation.set('greeted', true)
    temp.set('gone', true)
    return `Hello, ${user.get<string>('name')}`
  })
  t.equal(greeting, 'Hello, Ada')
  t.strictSame(await storage.stored(CONVERSATION_KEY), { greeted: true })
  t.strictSame(await storage.stored(USER_KEY), { name: 'Ada' })
  t.equal(await app.botasState.run(identity, () => 7), 7, 'the work may be synchronous')
})

t.test('a turn that throws saves nothing and passes its error on', async (t) => {
  const storage = new RecordingStorage()
  const { app } = await buildFastify(t, { storage }, () => {})
  const error = new Error('no')
  const fail = (state: TurnState) => {
    state.conversation.set('n', 1)
    throw error
  }
  await t.rejects(app.botasState.run(identity, async (state) => fail(state)), error)
  await t.rejects(app.botasState.run(identity, fail), error)
  t.equal(storage.count('update'), 0)
})

t.test('a load that fails rejects, and the work does not begin', async (t) => {
  const storage = new RecordingStorage()
  storage.failures.read = new Error('no route to host')
  const { app } = await buildFastify(t, { storage }, () => {})
  await t.rejects(app.botasState.run(identity, () => t.fail('the work must not begin')), {
    code: 'FST_BOTAS_STATE_LOAD_FAILED', cause: { message: 'no route to host' }
  })
})

t.test('a save that fails rejects and says which keys', async (t) => {
  const storage = new RecordingStorage()
  storage.failures.update = new Error('disk full')
  const { app } = await buildFastify(t, { storage }, () => {})
  await t.rejects(app.botasState.run(identity, ({ user }) => user.set('n', 1)), {
    code: 'FST_BOTAS_STATE_SAVE_FAILED', message: USER_KEY, cause: { message: 'disk full' }
  })
})

t.test('an identity decides which scopes there are', async (t) => {
  const { app } = await buildFastify(t, {}, () => {})
  const { run } = app.botasState
  await run({ channelId: 'test', botId: 'bot', userId: 'user-1' }, ({ conversation, user }) => {
    user.set('n', 1)
    t.match(t.throws(() => conversation.get('n')), { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /conversationId$/ })
  })
  await run({ channelId: 'test', botId: 'bot' }, ({ user, temp }) => {
    temp.set('n', 1)
    t.match(t.throws(() => user.get('n')), { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /userId$/ })
  })
  await t.rejects(run(null as unknown as typeof identity, () => {}), { code: 'FST_BOTAS_STATE_INVALID_ID', message: /"identity".*null/ })
  await t.rejects(run({ ...identity, userId: 'a\nb' }, () => {}), { code: 'FST_BOTAS_STATE_INVALID_ID', message: /"userId"/ })
  await t.rejects(run({ ...identity, channelId: undefined as unknown as string }, () => {}), { code: 'FST_BOTAS_STATE_INVALID_ID', message: /"channelId"/ })
})

t.test('the state takes no more changes when the work is done', async (t) => {
  const { app } = await buildFastify(t, {}, () => {})
  const state = await app.botasState.run(identity, (state) => state)
  t.match(t.throws(() => state.user.set('n', 1)), { code: 'FST_BOTAS_STATE_TURN_ENDED' })
})

t.test('turns with and without a request do not undo each other', async (t) => {
  const storage = new RecordingStorage()
  storage.latency.update = 5
  const { app, url } = await buildFastify(t, { storage }, (app) => {
    app.post('/', async ({ state }) => {
      await wait(5)
      return { n: state.conversation.update<number>('n', (n = 0) => n + 1) }
    })
  })
  await Promise.all(Array.from({ length: 20 }, (_, index) => index % 2 === 0
    ? post(url, message())
    : app.botasState.run(identity, async ({ conversation }) => {
      await wait(5)
      conversation.update<number>('n', (n = 0) => n + 1)
    })))
  await app.close()
  t.strictSame(await storage.stored(CONVERSATION_KEY), { n: 20 })
})
