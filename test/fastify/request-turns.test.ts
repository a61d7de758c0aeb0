import t from 'tap'
import type { TurnIdentity } from '../../lib/index.js'
import { CONVERSATION_KEY, USER_KEY, message } from '../helpers/activities.js'
import { buildFastify, post } from '../helpers/build-fastify.js'
import { RecordingStorage } from '../helpers/recording-storage.js'

const identity: TurnIdentity = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1', userId: 'user-1' }

t.test('with an activity in the body, temp works from onRequest on and the rest from preValidation on', async (t) => {
  const seen: string[] = []
  const { url } = await buildFastify(t, {}, (app) => {
    app.addHook('onRequest', async ({ state }) => {
      state.temp.set('seen', ['onRequest'])
      const error = t.throws(() => state.conversation.get('n'))
      t.match(error, { code: 'FST_BOTAS_STATE_NOT_LOADED', statusCode: 500, message: /preValidation/ })
      t.match(t.throws(() => state.user.set('n', 1)), { code: 'FST_BOTAS_STATE_NOT_LOADED' })
    })
    for (const hook of ['preValidation', 'preHandler'] as const) {
      app.addHook(hook, async ({ state }) => {
        state.temp.get<string[]>('seen')?.push(hook)
        state.conversation.set(hook, true)
      })
    }
    app.post('/', async ({ state }) => {
      seen.push(...state.temp.get<string[]>('seen') ?? [])
      return state.conversation.keys()
    })
  })
  t.strictSame((await post(url, message())).body, ['preValidation', 'preHandler'])
  t.strictSame(seen, ['onRequest', 'preValidation', 'preHandler'])
})

t.test('identify may answer in onRequest, and is then not asked again', async (t) => {
  let asked = 0
  const storage = new RecordingStorage()
  const { url } = await buildFastify(t, {
    storage,
    identify: async ({ params }) => {
      asked++
      const { chat, user } = params as { chat: string, user: string }
      return { channelId: 'test', botId: 'bot', conversationId: chat, userId: user }
    }
  }, (app) => {
    app.addHook('onRequest', async ({ state }) => { state.conversation.set('early', true) })
    app.get('/:chat/:user', async ({ state }) => state.conversation.keys())
  })
  const response = await fetch(`${url}/conversation-1/user-1`)
  t.strictSame(await response.json(), ['early'])
  t.equal(asked, 1)
  t.strictSame(storage.calls[0], ['read', [CONVERSATION_KEY, USER_KEY]])
})

t.test('identify is asked twice at most, and a request that it cannot tell is no turn', async (t) => {
  let asked = 0
  const storage = new RecordingStorage()
  const { url } = await buildFastify(t, { storage, identify: () => { asked++; return undefined } }, (app) => {
    app.post('/', async ({ state }) => {
      t.match(t.throws(() => state.conversation.get('n')), { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /identify/ })
      return {}
    })
  })
  t.equal((await post(url, message())).status, 200)
  t.equal(asked, 2)
  t.strictSame(storage.calls, [])
})

t.test('null from identify is no turn, what is no object is refused, and any promise is awaited', async (t) => {
  const { url: none } = await buildFastify(t, { identify: () => null }, (app) => app.post('/', async () => ({})))
  t.equal((await post(none, message())).status, 200)
  const { url: text } = await buildFastify(t, { identify: () => 'me' as unknown as TurnIdentity }, (app) => app.post('/', async () => ({})))
  t.match((await post(text, message())).body, { statusCode: 400, code: 'FST_BOTAS_STATE_INVALID_ID', message: /"identity".*a string/ })
  const thenable = { then: (resolve: (value: TurnIdentity) => void) => resolve(identity) } as unknown as Promise<TurnIdentity>
  const { url: own } = await buildFastify(t, { identify: () => thenable }, (app) => {
    app.post('/', async ({ state }) => state.conversation.keys())
  })
  t.match(await post(own, message()), { status: 200, body: [] })
})

t.test('an identify that throws or rejects fails the request with its error', async (t) => {
  for (const identify of [() => { throw new Error('no identity') }, async () => { throw new Error('no identity') }]) {
    const { url } = await buildFastify(t, { identify }, (app) => app.post('/', async () => ({})))
    const { status, body } = await post(url, message())
    t.equal(status, 500)
    t.equal(body.message, 'no identity')
  }
})

t.test('ids that identify gives are checked as well', async (t) => {
  const bad = { ...identity, userId: 7 as unknown as string }
  const { app, url } = await buildFastify(t, { identify: () => bad }, (app) => app.post('/', async () => ({})))
  const { status, body } = await post(url, message())
  t.equal(status, 400)
  t.match(body, { code: 'FST_BOTAS_STATE_INVALID_ID', message: /"userId".*a number/ })
  await app.close()
})

t.test('a request that is no turn touches no storage', async (t) => {
  const storage = new RecordingStorage()
  const { app, url } = await buildFastify(t, { storage }, (app) => {
    app.get('/health', async () => ({ fine: true }))
    app.get('/temp', async ({ state }) => {
      state.temp.set('n', 1)
      return state.temp.toJSON()
    })
    app.post('/webhook', async ({ state }) => state.conversation.keys())
    app.post('/', async ({ state }) => state.conversation.keys())
    app.setNotFoundHandler(async ({ state }, reply) => {
      state.temp.set('n', 1)
      t.match(t.throws(() => state.conversation.get('n')), { code: 'FST_BOTAS_STATE_NOT_A_TURN' })
      return reply.code(404).send({})
    })
  })
  t.strictSame(await (await fetch(`${url}/health`)).json(), { fine: true })
  t.strictSame(await (await fetch(`${url}/temp`)).json(), { n: 1 })
  t.equal((await fetch(`${url}/nowhere`)).status, 404)
  t.equal((await post(`${url}/nowhere`, message())).status, 404, 'not even with an activity')
  t.match((await post(`${url}/webhook`, { update_id: 1 })).body, {
    statusCode: 400, code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /channelId, recipient\.id, conversation\.id$/
  })
  t.strictSame(storage.calls, [])
  t.equal((await post(url, message())).status, 200)
  t.equal(storage.calls.length, 1)
  await app.close()
})

t.test('a 404 of an identify that needs no body is no turn either', async (t) => {
  const storage = new RecordingStorage()
  const identify = () => ({ channelId: 'c', botId: 'b', conversationId: 'x' })
  const { url } = await buildFastify(t, { storage, identify }, () => {})
  t.equal((await post(`${url}/nowhere`, message())).status, 404)
  t.strictSame(storage.calls, [])
})

t.test('what "identify" gives without a channel or a bot is no turn, and it is asked once more', async (t) => {
  const whole: TurnIdentity = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1', userId: '' }
  for (const name of ['channelId', 'botId'] as const) {
    for (const id of [undefined, null, '']) {
      const answers: TurnIdentity[] = []
      const { url } = await buildFastify(t, {
        identify: ({ body }) => {
          const answer = body == null ? { ...whole, [name]: id } : whole
          answers.push(answer)
          return answer
        }
      }, (app) => {
        app.post('/', async ({ state }) => {
          state.conversation.set('n', 1)
          t.throws(() => state.user.get('n'), { code: 'FST_BOTAS_STATE_NOT_A_TURN' })
        })
        app.get('/', async ({ state }) => {
          t.throws(() => state.conversation.get('n'), { code: 'FST_BOTAS_STATE_NOT_A_TURN' })
        })
      })
      t.match(await post(url, message()), { status: 200 })
      t.equal((await fetch(url)).status, 200)
      t.strictSame(answers.map((answer) => answer[name]), [id, whole[name], id, id])
    }
  }
})
