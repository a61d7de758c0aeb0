import { setTimeout as wait } from 'node:timers/promises'
import { runInThisContext } from 'node:vm'
import multipart from '@fastify/multipart'
import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import botasState, { type BotasStateOptions, type TurnState } from '../../lib/index.js'
import { CONVERSATION_KEY, USER_KEY, message } from '../helpers/activities.js'
import { buildFastify, listen, post, settled } from '../helpers/build-fastify.js'
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

t.test('isAvailable tells whether a scope can be read now, and never throws', async (t) => {
  const seen: unknown[] = []
  const look = ({ conversation, user, temp }: TurnState) => [conversation.isAvailable, user.isAvailable, temp.isAvailable]
  const { url } = await buildFastify(t, {}, (app) => {
    app.addHook('onRequest', async ({ state }) => { seen.push(look(state)) })
    app.post('/', async ({ state }) => { seen.push(look(state)) })
  })
  await post(url, message())
  await post(url, { ...message(), from: undefined })
  await post(url, { no: 'activity' })
  const before = [false, false, true]
  t.strictSame(seen, [before, [true, true, true], before, [true, false, true], before, before])

  const storage = slowStorage()
  storage.failures.read = new Error('no')
  const failed: unknown[] = []
  const { url: failing } = await buildFastify(t, { storage }, (app) => {
    app.addHook('onError', async ({ state }) => { failed.push(look(state)) })
    app.post('/', async () => {})
  })
  t.equal((await post(failing, message())).status, 500)
  t.strictSame(failed, [before])
})

t.test('nobody assigns to the state in silence', async (t) => {
  const sloppy = (code: string) => runInThisContext(`(function (state) { ${code} })`) as (state: unknown) => unknown
  const { app } = await buildFastify(t, {}, () => {})
  await app.botasState.run(identity, (state) => {
    for (const [code, name] of [
      ['state.conversation.count = 1', 'count'], ['state.user.name = "x"', 'name'], ['state.temp.requestId = 1', 'requestId'],
      ['state.user.get = 1', 'get'], ['state.user.isAvailable = 1', 'isAvailable'], ['state.user.constructor = 1', 'constructor'],
      ['state.user.toString = 1', 'toString'], ['state.conversation.__proto__ = {}', '__proto__'],
      ['state.conversation = {}', 'conversation'], ['state.count = 1', 'count'], ['state.getValue = 1', 'getValue'], ['state.signal = 1', 'signal'],
      ['Object.assign(state.user, { nick: 1 })', 'nick'], ['state.user["a key"]++', 'a key']
    ] as const) {
      t.throws(() => sloppy(code)(state), { code: 'FST_BOTAS_STATE_INVALID_PATH', statusCode: 500, message: new RegExp(`"${name}".*set\\(`) }, code)
    }
    t.strictSame(state.conversation.keys().concat(state.user.keys()), [])
  })
  const { url } = await buildFastify(t, {}, (app) => {
    app.post('/', async (request) => { sloppy('state.state = {}')(request) })
  })
  t.match((await post(url, message())).body, { code: 'FST_BOTAS_STATE_INVALID_PATH', message: /"state"/ })
})

t.test('a multipart body is an activity where it is read before the plugin looks, and otherwise the error says so', async (t) => {
  const form = ['channelId', 'recipient', 'conversation', 'from'].map((name) => {
    const value = message()[name as 'from']
    return `--x\r\nContent-Disposition: form-data; name="${name}"\r\nContent-Type: application/json\r\n\r\n${JSON.stringify(value)}\r\n`
  }).join('') + '--x--\r\n'
  for (const isFirst of [true, false]) {
    const app = Fastify({ forceCloseConnections: true })
    t.teardown(() => app.close())
    const plugins = [() => app.register(multipart, { attachFieldsToBody: 'keyValues' }), () => app.register(botasState)]
    for (const register of isFirst ? plugins : plugins.reverse()) await register()
    app.post('/', async ({ state }) => state.conversation.keys())
    const { url } = await listen(app)
    const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'multipart/form-data; boundary=x' }, body: form })
    const expected = isFirst ? [] : { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /no activity yet.*multipart.*before fastify-botas-state/s }
    t.match(await response.json(), expected)
  }
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

t.test('a handler keeps its name, by which tracing shows it', async (t) => {
  const { url } = await buildFastify(t, {}, (app) => {
    app.post('/', async function greet (request) { return { name: request.routeOptions.handler?.name ?? (request as never) } })
  })
  const bare = Fastify({ forceCloseConnections: true })
  t.teardown(() => bare.close())
  bare.post('/', async function greet (request) { return { name: (request.routeOptions as { handler?: { name: string } }).handler?.name } })
  const { url: bareUrl } = await listen(bare)
  t.strictSame((await post(url, message())).body, (await post(bareUrl, message())).body)
  t.equal((await post(url, message())).body.name, 'bound greet')
})

t.test('a user whose id is empty has no state, and the conversation has', async (t) => {
  const storage = slowStorage()
  const { app, url } = await buildFastify(t, { storage }, (app) => {
    app.post('/', async ({ state }) => { if (!state.user.isAvailable) state.conversation.set('n', 1) })
  })
  t.equal((await post(url, { ...message(), from: { id: '' } })).status, 200)
  await app.close()
  t.strictSame(await storage.stored(CONVERSATION_KEY), { n: 1 })
  t.equal(await storage.stored(USER_KEY), undefined)
})
