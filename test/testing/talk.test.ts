import { setTimeout as wait } from 'node:timers/promises'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import t, { type Test } from 'tap'
import { botasState, type BotasStateOptions, MemoryStorage } from '../../lib/index.js'
import { failNext, given, talk } from '../../lib/testing/testing.js'
import { protocols } from '../helpers/client.js'
import { LeasingStorage, newServer } from '../helpers/leasing-storage.js'

const ADA = { channelId: 'test', botId: 'bot', conversationId: 'c', userId: 'ada' }

/** A bot that counts; "slow" takes its time, and "refused" is a client's fault. */
function countingBot (t: Test, options: BotasStateOptions = {}, serverOptions: FastifyServerOptions = {}): FastifyInstance {
  const app = Fastify({ forceCloseConnections: true, ...serverOptions })
  t.teardown(() => app.close())
  app.register(botasState, { storage: new LeasingStorage(newServer(), 5), ...options })
  app.post<{ Body: { text: string } }>('/api/messages', async ({ body: { text }, state }, reply) => {
    if (text === 'refused') return reply.code(400).send({})
    const turn = state.conversation.update<number>('turnCount', (count = 0) => count + 1)
    if (state.user.isAvailable) state.user.set('lastWords', text)
    if (text === 'slow') await wait(50)
    return { turn, text }
  })
  return app
}

t.test('what somebody says is a turn of theirs, and the response is what their client gets', async (t) => {
  const app = countingBot(t)
  const ada = talk(app, ADA)
  const reply = await ada.says('Hi')
  t.equal(reply.statusCode, 200)
  t.strictSame(reply.json(), { turn: 1, text: 'Hi' })
  t.strictSame(await ada.state(), { conversation: { turnCount: 1 }, user: { lastWords: 'Hi' } })
  t.equal((await ada.says('refused')).statusCode, 400)
})

t.test('the state of somebody who never spoke is empty, and others have their own', async (t) => {
  const app = countingBot(t)
  const ada = talk(app, ADA)
  const bob = talk(app, { ...ADA, userId: 'bob' })
  t.strictSame(await bob.state(), { conversation: {}, user: {} })
  await ada.says('Hi')
  t.strictSame(await bob.state(), { conversation: { turnCount: 1 }, user: {} })
})

t.test('somebody without a user, or without a conversation, has the other scope', async (t) => {
  const app = countingBot(t)
  const channel = talk(app, { ...ADA, userId: undefined })
  await channel.says('Hi')
  t.strictSame(await channel.state(), { conversation: { turnCount: 1 }, user: {} })
  const nowhere = talk(app, { ...ADA, conversationId: null })
  t.match((await nowhere.says('Hi')).json(), { code: 'FST_BOTAS_STATE_NOT_A_TURN' })
})

t.test('messages that are said at once overlap, and are answered in their order', async (t) => {
  const app = countingBot(t, { concurrency: 'queue' })
  const ada = talk(app, ADA)
  const replies = await ada.saysAtOnce(['slow', 'b', 'c'])
  t.strictSame(replies.map((reply) => reply.json()), [{ turn: 1, text: 'slow' }, { turn: 2, text: 'b' }, { turn: 3, text: 'c' }])
})

t.test('a message is delivered again with its id, whatever its body is made of', async (t) => {
  const app = countingBot(t, { once: true })
  let updates = 0
  const ada = talk(app, ADA, { payload: (said) => ({ ...said, id: `update-${++updates}` }) })
  t.rejects(ada.redelivers(), { message: /nothing was said/ })
  await ada.says('Hi')
  await ada.says('Hi again')
  const replayed = await ada.redelivers()
  t.equal(replayed.headers['botas-state'], 'replayed')
  t.strictSame(replayed.json(), { turn: 2, text: 'Hi again' })
})

for (const [name, { serverOptions }] of Object.entries(protocols)) {
  t.test(`somebody who leaves during a turn gets no reply, and the turn goes on: ${name}`, async (t) => {
    const order: string[] = []
    const app = countingBot(t, {}, serverOptions)
    app.addHook('onRequest', async (_request, reply) => { reply.raw.on('close', () => order.push('gone')) })
    app.addHook('onSend', async () => { order.push('answered') })
    const ada = talk(app, ADA)
    await ada.leavesDuring('slow')
    t.strictSame(order, ['gone', 'answered'])
    t.strictSame(await ada.state(), { conversation: { turnCount: 1 }, user: { lastWords: 'slow' } })
    await ada.leavesDuring('slow')
    t.match(await ada.state(), { conversation: { turnCount: 2 } }, 'also of a server that listens already')
  })

  t.test(`somebody who is refused before a turn is loaded leaves as well: ${name}`, async (t) => {
    const app = countingBot(t, {}, serverOptions)
    app.addHook('onRequest', async (_request, reply) => reply.code(401).send({}))
    const ada = talk(app, ADA)
    await ada.leavesDuring('Hi')
    t.strictSame(await ada.state(), { conversation: {}, user: {} })
  })

  t.test(`somebody whose connection breaks leaves as well: ${name}`, async (t) => {
    const app = countingBot(t, {}, serverOptions)
    app.addHook('onRequest', async (request) => { request.raw.socket.destroy() })
    await t.resolves(talk(app, ADA).leavesDuring('Hi'))
  })
}

t.test('the state is looked at when no turn is open, be its reply out or not', async (t) => {
  const app = countingBot(t)
  const ada = talk(app, ADA)
  app.post('/late', async ({ state }) => {
    state.waitUntil(wait(50).then(() => state.conversation.set('isLate', true)))
    return {}
  })
  await talk(app, ADA, { url: '/late' }).says('Hi')
  t.strictSame((await ada.state()).conversation, { isLate: true })
})

t.test('a turn that stays open is told of', async (t) => {
  const app = countingBot(t, { flushTimeout: 50 })
  let finish = () => {}
  app.post('/open', async ({ state }) => {
    state.waitUntil(new Promise<void>((resolve) => { finish = resolve }))
    return {}
  })
  const ada = talk(app, ADA, { url: '/open' })
  await ada.says('Hi')
  await t.rejects(ada.state(), { message: /^turns are still open after 50 ms/ })
  finish()
})

t.test('another route, headers and the body of another channel', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  const telegram = { channelId: 'telegram', botId: 'bot', conversationId: '7' }
  app.register(botasState, { identify: ({ body }) => body === undefined ? undefined : { ...telegram, conversationId: (body as { chat: string }).chat } })
  app.post<{ Body: { chat: string, text: string } }>('/telegram', async ({ body, headers, state }) => {
    state.conversation.set('said', body.text)
    return { secret: headers['x-secret'] }
  })
  for (const asText of [false, true]) {
    const ada = talk(app, telegram, {
      url: '/telegram',
      headers: { 'X-Secret': 'open sesame', 'Content-Type': 'application/json; charset=utf-8' },
      payload: ({ text, conversation }) => {
        const update = { chat: conversation?.id, text: `${text} ${asText}` }
        return asText ? JSON.stringify(update) : update
      }
    })
    t.strictSame((await ada.says('Hi')).json(), { secret: 'open sesame' })
    t.strictSame((await ada.state()).conversation, { said: `Hi ${asText}` })
  }
})

t.test('what is given is what the next turn finds', async (t) => {
  const app = countingBot(t)
  const ada = talk(app, ADA)
  await given(app, { conversation: { turnCount: 4 }, user: { name: 'Ada' } })
  t.strictSame((await ada.says('Hi')).json(), { turn: 5, text: 'Hi' })
  t.strictSame((await ada.state()).user, { name: 'Ada', lastWords: 'Hi' })
  await given(app, { user: { name: 'Countess' } })
  t.strictSame(await ada.state(), { conversation: { turnCount: 5 }, user: { name: 'Countess' } }, 'a scope that is left out stays as it is')
})

t.test('what is given, and what is made to fail, comes after turns that are answered and not over', async (t) => {
  const app = countingBot(t)
  app.post('/late', async ({ state }) => {
    state.waitUntil(wait(50).then(() => state.conversation.set('isLate', true)))
    return {}
  })
  const late = talk(app, ADA, { url: '/late' })
  await late.says('Hi')
  await given(app, { conversation: { turnCount: 4 } })
  t.strictSame((await late.state()).conversation, { turnCount: 4 })
  await late.says('Hi')
  await failNext(app, 'save')
  await talk(app, ADA).says('Hi')
  t.strictSame((await late.state()).conversation, { turnCount: 4, isLate: true })
})

t.test('what is given before anybody talks is that of the first one who does', async (t) => {
  const app = countingBot(t)
  await given(app, { conversation: { turnCount: 4 } })
  await given(app, { user: { name: 'Ada' } })
  const ada = talk(app, ADA)
  t.strictSame((await ada.says('Hi')).json(), { turn: 5, text: 'Hi' })
  t.strictSame((await ada.state()).user, { name: 'Ada', lastWords: 'Hi' })
  const bob = talk(app, { ...ADA, conversationId: 'd' })
  t.strictSame((await bob.says('Hi')).json(), { turn: 1, text: 'Hi' })
})

t.test('what is given may be somebody else\'s, who must have the scope', async (t) => {
  const app = countingBot(t)
  const ada = talk(app, ADA)
  const bob = { channelId: 'test', botId: 'bot', userId: 'bob' }
  await given(app, { user: { name: 'Bob' } }, bob)
  t.strictSame(await ada.state(), { conversation: {}, user: {} })
  t.strictSame(await talk(app, bob).state(), { conversation: {}, user: { name: 'Bob' } })
  await t.rejects(given(app, { conversation: {} }, bob), { message: /no conversationId/ })
})

t.test('what cannot be given fails what is said next', async (t) => {
  const app = countingBot(t)
  await given(app, { conversation: { turnCount: 4 } })
  await t.rejects(talk(app, { ...ADA, conversationId: undefined }).says('Hi'), { message: /no conversationId/ })
})

t.test('a load or a save that is made to fail fails as with a broken storage, once', async (t) => {
  const storages = { 'one of this package': () => new MemoryStorage(), 'another one': () => new LeasingStorage() }
  for (const [name, open] of Object.entries(storages)) {
    for (const options of [{}, { concurrency: 'queue' }, { once: true }] as BotasStateOptions[]) {
      const app = countingBot(t, { storage: open(), flush: 'onSend', ...options })
      const ada = talk(app, ADA)
      await ada.says('Hi')
      await failNext(app, 'load')
      t.match((await ada.says('a')).json(), { code: 'FST_BOTAS_STATE_LOAD_FAILED' }, `${name} ${JSON.stringify(options)}`)
      await failNext(app, 'save')
      await failNext(app, 'save')
      for (const text of ['b', 'c']) t.match((await ada.says(text)).json(), { code: 'FST_BOTAS_STATE_SAVE_FAILED' })
      t.strictSame(await ada.state(), { conversation: { turnCount: 1 }, user: { lastWords: 'Hi' } })
      t.strictSame((await ada.says('d')).json(), { turn: 2, text: 'd' })
      if (options.once === true) t.equal((await ada.redelivers()).headers['botas-state'], 'replayed')
      t.match(app.botasState.stats, { loadFailures: 1, flushFailures: 2, openTurns: 0, waitingTurns: 0 })
    }
  }
})

t.test('a failure that is asked for before the server is ready', async (t) => {
  const app = countingBot(t)
  await failNext(app, 'load')
  t.equal((await talk(app, ADA).says('Hi')).statusCode, 500)
})

t.test('a server that cannot be made ready is told of', async (t) => {
  const app = countingBot(t)
  app.register(async () => { throw new Error('no such plugin') })
  await t.rejects(failNext(app, 'load'), { message: 'no such plugin' })
  await t.rejects(talk(app, ADA).says('Hi'), { message: 'no such plugin' })
})

t.test('a server without the plugin is told of', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await t.rejects(failNext(app, 'load'), { message: /app\.botasState was not found/ })
  await t.rejects(talk(app, ADA).state(), { message: /app\.botasState was not found/ })
})

t.test('a plugin that is registered in a scope of its own is found there', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  const bot = await new Promise<FastifyInstance>((resolve) => {
    app.register(async (scope) => {
      scope.register(botasState)
      scope.post('/api/messages', async ({ state }) => { state.user.set('n', 1) })
      scope.addHook('onReady', async () => resolve(scope))
    })
    app.ready()
  })
  const ada = talk(bot, ADA)
  await ada.says('Hi')
  await ada.leavesDuring('Hi')
  t.strictSame((await ada.state()).user, { n: 1 })
})

t.test('the load of another server on the same storage is not taken for one\'s own', async (t) => {
  const storage = new LeasingStorage(newServer(), 5)
  const [app, other] = [countingBot(t, { storage }), countingBot(t, { storage })]
  app.addHook('onRequest', async () => wait(80))
  const left = talk(app, ADA).leavesDuring('slow')
  await wait(40)
  await talk(other, ADA).says('Hi')
  await left
  t.match(await talk(app, ADA).state(), { conversation: { turnCount: 2 }, user: { lastWords: 'slow' } })
})

t.test('a client that waits for a turn in vain is told so, and leaves nothing behind', async (t) => {
  const app = countingBot(t, { flushTimeout: 100 })
  app.addHook('onRequest', () => new Promise(() => {}))
  await t.rejects(talk(app, ADA).leavesDuring('Hi'), { message: /^no turn was loaded, and no answer came after 100 ms/ })
})

t.test('headers that cannot be sent are told of', async (t) => {
  const ada = talk(countingBot(t), ADA, { headers: { 'X-Name': 'a\nb' } })
  await t.rejects(ada.leavesDuring('Hi'), { code: 'ERR_INVALID_CHAR' })
})

t.test('an id that is none is refused at once', async (t) => {
  t.throws(() => talk(Fastify(), { ...ADA, userId: 'a\nb' }), { code: 'FST_BOTAS_STATE_INVALID_ID' })
})
