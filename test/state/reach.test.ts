import { runInThisContext } from 'node:vm'
import t from 'tap'
import type { TurnState } from '../../lib/index.js'
import { message } from '../helpers/activities.js'
import { buildFastify, post } from '../helpers/build-fastify.js'
import { slowStorage } from '../helpers/slow-storage.js'

const identity = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1', userId: 'user-1' }

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
