import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import type { BotasStateOptions, TurnState } from '../../lib/index.js'
import { CONVERSATION_KEY, message } from '../helpers/activities.js'
import { buildFastify, post, settled } from '../helpers/build-fastify.js'
import { slowStorage } from '../helpers/slow-storage.js'

const identity = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1', userId: 'user-1' }

t.test('signal: aborted when the server begins to close, and never by a client that leaves', async (t) => {
  for (const isRead of ['before', 'after']) {
    const storage = slowStorage()
    let state: TurnState | undefined
    const { app, url } = await buildFastify(t, { storage }, (app) => {
      app.post('/', async (request) => {
        state = request.state
        if (isRead === 'before') t.equal(state.signal.aborted, false)
        await wait(60)
        state.conversation.set('aborted', state.signal.aborted)
      })
    })
    const controller = new AbortController()
    const answer = fetch(url, {
      method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(message()), signal: controller.signal
    }).catch(() => {})
    await settled(() => state !== undefined)
    controller.abort()
    await answer
    await wait(10)
    if (isRead === 'before') t.equal(state?.signal.aborted, false)
    await app.close()
    t.match(state?.signal.reason, { name: 'AbortError', message: 'the server is closing' })
    t.strictSame(await storage.stored(CONVERSATION_KEY), { aborted: true }, 'the turn goes on, if it likes')
  }
})

t.test('signal: of a request that is no turn nothing is kept', async (t) => {
  const signals: AbortSignal[] = []
  const { app, url } = await buildFastify(t, {}, (app) => {
    app.addHook('onRequest', async ({ state }) => { signals.push(state.signal) })
    app.post('/', async () => { if (signals.length === 2) await wait(50) })
  })
  t.equal((await post(url, { no: 'activity' })).status, 200)
  const turn = post(url, message()).catch(() => {})
  await settled(() => app.botasState.stats.openTurns === 1)
  await Promise.all([app.close(), turn])
  t.strictSame(signals.map(({ aborted }) => aborted), [false, true], 'that of a turn is aborted, wherever it was read')
})

t.test('signal: that of a turn which is over is left alone', async (t) => {
  const { app } = await buildFastify(t, {}, () => {})
  const signals: AbortSignal[] = []
  let over: TurnState | undefined
  await app.botasState.run(identity, (state) => {
    over = state
    signals.push(state.signal, state.signal)
  })
  await app.botasState.run(identity, (state) => { over = state })
  signals.push((over as TurnState).signal)
  await app.close()
  t.equal(signals[0], signals[1], 'it is made once')
  t.strictSame(signals.map(({ aborted }) => aborted), [false, false, false])
})

t.test('signal: the timeout of a handler aborts it, and says so also to who reads it later', async (t) => {
  const states: TurnState[] = []
  const options: BotasStateOptions = { identify: () => identity }
  const { app, url } = await buildFastify(t, options, (app) => {
    for (const path of ['/early', '/late']) {
      app.get(path, { handlerTimeout: 30 }, async ({ state }) => {
        if (path === '/early') t.equal(state.signal.aborted, false)
        states.push(state)
        await wait(80)
      })
    }
  })
  for (const path of ['/early', '/late']) t.equal((await fetch(url + path)).status, 503)
  for (const { signal } of states) t.match(signal.reason, { code: 'FST_ERR_HANDLER_TIMEOUT' })
  await app.close()
})
