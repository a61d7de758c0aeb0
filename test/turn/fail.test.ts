import t from 'tap'
import type { TurnState } from '../../lib/index.js'
import { CONVERSATION_KEY, message } from '../helpers/activities.js'
import { buildFastify, post, settled } from '../helpers/build-fastify.js'
import { slowStorage } from '../helpers/slow-storage.js'

const identity = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1', userId: 'user-1' }
const flushes = ['onResponse', 'onSend'] as const

t.test('fail: an SDK that catches what its bot throws stores nothing', async (t) => {
  for (const flush of flushes) {
    const storage = slowStorage()
    const error = new Error('the bot threw')
    const refused: unknown[] = []
    const { app, url } = await buildFastify(t, { storage, flush }, (app) => {
      app.post('/', async ({ state }) => {
        state.conversation.set('n', 1)
        state.fail(error)
        state.fail(new Error('a second reason'))
        for (const change of [() => state.conversation.set('n', 2), () => state.user.update('n', () => 1), () => state.deleteUserState()]) {
          refused.push(t.throws(change))
        }
        return { answered: 'in words' }
      })
    })
    t.match(await post(url, message()), { status: 200, body: { answered: 'in words' } })
    await app.close()
    t.equal(storage.count('update'), 0)
    t.match(refused, Array.from({ length: 3 }, () => ({
      code: 'FST_BOTAS_STATE_FAILED', statusCode: 500, message: /fastify\.botasState\.run/, cause: error
    })))
  }
})

t.test('fail: without a reason, before the state is loaded, or once the turn is over', async (t) => {
  const storage = slowStorage()
  let kept: TurnState | undefined
  const { app, url } = await buildFastify(t, { storage }, (app) => {
    app.addHook('onRequest', async ({ state, headers }) => { if (headers['x-fail'] === 'early') state.fail() })
    app.post('/', async ({ state }) => {
      if (state.conversation.isAvailable) kept = state
      try {
        state.conversation.set('n', 1)
      } catch (error) {
        return { code: (error as { code: string }).code }
      }
      return {}
    })
  })
  const early = await fetch(url, {
    method: 'POST', headers: { 'content-type': 'application/json', 'x-fail': 'early' }, body: JSON.stringify(message())
  })
  t.strictSame(await early.json(), { code: 'FST_BOTAS_STATE_FAILED' })
  t.equal(storage.count('update'), 0)
  t.strictSame((await post(url, message())).body, {})
  await settled(async () => await storage.stored(CONVERSATION_KEY) !== undefined)
  kept?.fail(new Error('too late'))
  t.throws(() => kept?.conversation.set('n', 2), { code: 'FST_BOTAS_STATE_TURN_ENDED' })
  await app.close()
  t.strictSame(await storage.stored(CONVERSATION_KEY), { n: 1 })
})

t.test('fail: a turn of run that failed saves nothing and gives its result all the same', async (t) => {
  const storage = slowStorage()
  const { app } = await buildFastify(t, { storage }, () => {})
  t.equal(await app.botasState.run(identity, ({ conversation, ...state }) => {
    conversation.set('n', 1)
    return 7
  }), 7)
  t.equal(await app.botasState.run(identity, (state) => {
    state.conversation.set('n', 2)
    state.fail()
    return 8
  }), 8)
  t.strictSame(await storage.stored(CONVERSATION_KEY), { n: 1 })
})

t.test('an error handler may store something after a turn has failed, by a turn of its own', async (t) => {
  const storage = slowStorage()
  const { app, url } = await buildFastify(t, { storage }, (app) => {
    app.setErrorHandler(async (error) => {
      await app.botasState.run(identity, ({ conversation }) => conversation.set('lastError', error instanceof Error))
      return { sorry: true }
    })
    app.post('/', async ({ state }) => {
      state.conversation.set('n', 1)
      throw new Error('no')
    })
  })
  t.strictSame((await post(url, message())).body, { sorry: true })
  await app.close()
  t.strictSame(await storage.stored(CONVERSATION_KEY), { lastError: true })
})

t.test('an error handler that changes the state of a failed turn does not hide the first error', async (t) => {
  const { app, url, log } = await buildFastify(t, {}, (app) => {
    app.setErrorHandler(async (_error, { state }) => state.deleteConversationState())
    app.post('/', async () => { throw new Error('the first error') })
  })
  t.match((await post(url, message())).body, { code: 'FST_BOTAS_STATE_FAILED' })
  await app.close()
  t.match(log, [{ level: 50, err: { code: 'FST_BOTAS_STATE_FAILED', message: /the first error/ } }])
})

t.test('a turn that failed keeps temp for the error handler and the hooks after it', async (t) => {
  const { url } = await buildFastify(t, {}, (app) => {
    app.setErrorHandler(async (error, { state }) => {
      const refusal = t.throws(() => state.conversation.set('n', 1), { code: 'FST_BOTAS_STATE_FAILED' }) as unknown as Error
      t.equal(refusal.cause, error, 'the first error is not hidden')
      state.temp.set('seen', state.conversation.get('n'))
      return {}
    })
    app.addHook('onSend', async ({ state }, reply) => { reply.header('x-seen', state.temp.get<number>('seen')) })
    app.post('/', async ({ state }) => {
      state.conversation.set('n', 7)
      throw new Error('no')
    })
  })
  const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(message()) })
  t.equal(response.headers.get('x-seen'), '7')
})
