import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import type { TurnState } from '../../lib/index.js'
import { CONVERSATION_KEY, message } from '../helpers/activities.js'
import { buildFastify, post, settled } from '../helpers/build-fastify.js'
import { slowStorage } from '../helpers/slow-storage.js'

const identity = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1', userId: 'user-1' }
const flushes = ['onResponse', 'onSend'] as const

t.test('waitUntil: what goes on behind the handler is saved with it, whatever flush says', async (t) => {
  for (const flush of flushes) {
    const storage = slowStorage()
    const { app, url } = await buildFastify(t, { storage, flush }, (app) => {
      app.post('/', ({ state }, reply) => {
        state.conversation.set('before', true)
        state.waitUntil(wait(40).then(() => state.waitUntil(wait(20).then(() => { state.conversation.set('after', true) }))))
        reply.send({})
      })
    })
    t.equal((await post(url, message())).status, 200)
    t.equal(storage.count('update'), 0, 'the reply does not wait for it, and nothing is saved in parts')
    t.equal(app.botasState.stats.openTurns, 1)
    await app.close()
    t.strictSame(await storage.stored(CONVERSATION_KEY), { before: true, after: true })
    t.equal(storage.count('update'), 1)
  }
})

t.test('waitUntil: a handler that awaited its reply may change the state while the turn is kept open', async (t) => {
  const storage = slowStorage()
  const { app, url } = await buildFastify(t, { storage, flush: 'onSend' }, (app) => {
    app.post('/', async ({ state }, reply) => {
      const work = (async () => {
        await reply
        await wait(10)
        state.conversation.set('after', true)
      })()
      state.waitUntil(work)
      state.conversation.set('before', true)
      reply.send({})
      await work
    })
  })
  t.equal((await post(url, message())).status, 200)
  await app.close()
  t.strictSame(await storage.stored(CONVERSATION_KEY), { before: true, after: true })
})

t.test('waitUntil: a rejection fails the turn and is logged', async (t) => {
  for (const flush of flushes) {
    const storage = slowStorage()
    const { app, url, log } = await buildFastify(t, { storage, flush }, (app) => {
      app.post('/', async ({ state }) => {
        state.conversation.set('n', 1)
        state.waitUntil(wait(10).then(() => { throw new Error('went wrong') }))
        return {}
      })
    })
    t.equal((await post(url, message())).status, 200)
    await app.close()
    t.equal(storage.count('update'), 0)
    t.match(log, [{ level: 50, err: { message: 'went wrong' }, msg: /waitUntil.*not saved/ }])
    t.equal(log.length, 1)
  }
})

t.test('waitUntil: run waits as well, and passes a rejection on', async (t) => {
  const storage = slowStorage()
  const { app } = await buildFastify(t, { storage }, () => {})
  const result = await app.botasState.run(identity, (state) => {
    state.waitUntil(wait(20).then(() => {
      state.conversation.set('a', 1)
      state.waitUntil(wait(20).then(() => { state.conversation.set('b', 2) }))
    }))
    return 'done'
  })
  t.equal(result, 'done')
  t.strictSame(await storage.stored(CONVERSATION_KEY), { a: 1, b: 2 })
  const error = new Error('went wrong')
  await t.rejects(app.botasState.run(identity, (state) => {
    state.conversation.set('a', 2)
    state.waitUntil(Promise.reject(error))
  }), error)
  t.strictSame(await storage.stored(CONVERSATION_KEY), { a: 1, b: 2 })
})

t.test('waitUntil: of several failures in run none is passed over', async (t) => {
  const { app, log } = await buildFastify(t, {}, () => {})
  await t.rejects(app.botasState.run(identity, (state) => {
    state.waitUntil(wait(5).then(() => { throw new Error('later') }))
    throw new Error('first')
  }), { message: 'first' })
  await t.rejects(app.botasState.run(identity, async (state) => {
    state.waitUntil(Promise.reject(new Error('before')))
    await wait(5)
    throw new Error('first')
  }), { message: 'first' })
  await t.rejects(app.botasState.run(identity, (state) => {
    for (const message of ['first', 'second']) state.waitUntil(Promise.reject(new Error(message)))
  }), { message: 'first' })
  await settled(() => log.length === 3)
  t.strictSame(log.map(({ err }) => (err as Error).message).sort(), ['before', 'later', 'second'])
})

t.test('waitUntil: a turn that is over cannot be kept open, one that failed need not be', async (t) => {
  const storage = slowStorage()
  const { app } = await buildFastify(t, { storage }, () => {})
  let over: TurnState | undefined
  await app.botasState.run(identity, (state) => { over = state })
  t.throws(() => over?.waitUntil(wait(1)), { code: 'FST_BOTAS_STATE_TURN_ENDED' })
  let failed: TurnState | undefined
  await t.rejects(app.botasState.run(identity, (state) => {
    failed = state
    throw new Error('no')
  }))
  failed?.waitUntil(wait(1))
})
