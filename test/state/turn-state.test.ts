import { runInThisContext } from 'node:vm'
import Fastify from 'fastify'
import t from 'tap'
import botasState, { type TurnState } from '../../lib/index.js'
import { message } from '../helpers/activities.js'
import { buildFastify, post } from '../helpers/build-fastify.js'
import { slowStorage } from '../helpers/slow-storage.js'

const app = Fastify()
await app.register(botasState)
t.teardown(() => app.close())

const identity = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1', userId: 'user-1' }
const inTurn = (work: (state: TurnState) => void) => app.botasState.run(identity, work)

t.test('a path leads to the scope that it names, in any case', async (t) => {
  await inTurn((state) => {
    state.setValue('conversation.count', 5)
    state.setValue('USER.name', 'Ada')
    state.setValue('Temp.requestId', 'r1')
    t.strictSame(state.conversation.toJSON(), { count: 5 })
    t.strictSame(state.user.toJSON(), { name: 'Ada' })
    t.strictSame(state.temp.toJSON(), { requestId: 'r1' })
    t.equal(state.getValue('Conversation.count'), 5)
    t.equal(state.getValue<string>('user.name'), 'Ada')
    t.equal(state.getValue('temp.requestId'), 'r1')
    state.deleteConversationState()
    state.deleteUserState()
  })
})

t.test('a bare key is in temp', async (t) => {
  await inTurn((state) => {
    state.setValue('foo', 'bar')
    t.equal(state.temp.get('foo'), 'bar')
    t.equal(state.getValue('foo'), 'bar')
    state.setValue('conversation', 1)
    t.equal(state.temp.get('conversation'), 1)
  })
})

t.test('every method of a scope works by path', async (t) => {
  await inTurn((state) => {
    t.equal(state.hasValue('conversation.n'), false)
    t.equal(state.updateValue<number>('conversation.n', (n) => (n ?? 0) + 1), 1)
    t.equal(state.hasValue('conversation.n'), true)
    t.equal(state.deleteValue('conversation.n'), true)
    t.equal(state.deleteValue('conversation.n'), false)
    t.equal(state.getValue('conversation.n'), undefined)
  })
})

t.test('a path that leads nowhere is refused and named', async (t) => {
  await inTurn((state) => {
    const paths: Array<[string, RegExp]> = [
      ['conversation.a.b', /"conversation.a.b" has more than one dot/], ['dialog.a', /unknown scope/],
      ['', /empty part/], ['.a', /empty part/], ['user.', /empty part/], ['.', /empty part/], ['a..b', /empty part/],
      ['__proto__.a', /unknown scope/], [7 as unknown as string, /must be a string, got a number/], [undefined as unknown as string, /must be a string, got undefined/]
    ]
    for (const [path, message] of paths) {
      const expected = { code: 'FST_BOTAS_STATE_INVALID_PATH', statusCode: 500, message }
      t.match(t.throws(() => state.getValue(path)), expected)
      t.match(t.throws(() => state.setValue(path, 1)), expected)
      t.match(t.throws(() => state.updateValue(path, () => 1)), expected)
      t.match(t.throws(() => state.hasValue(path)), expected)
      t.match(t.throws(() => state.deleteValue(path)), expected)
    }
  })
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
