import { randomUUID } from 'node:crypto'
import t from 'tap'
import { FileStorage } from '../../lib/index.js'
import { message } from '../helpers/activities.js'
import { buildFastify, post } from '../helpers/build-fastify.js'

t.test('an answer that is streamed token by token is remembered', async (t) => {
  async function * model () { yield * ['Hello', ', ', 'world'] }
  const { url } = await buildFastify(t, {}, (app) => {
    app.post('/', async (request, reply) => {
      reply.hijack()
      let answer = ''
      for await (const token of model()) {
        answer += token
        reply.raw.write(token)
      }
      reply.raw.end()
      request.state.conversation.set('lastAnswer', answer)
    })
    app.post('/last', async ({ state }) => ({ last: state.conversation.get('lastAnswer') }))
  })
  const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(message()) })
  t.equal(await response.text(), 'Hello, world')
  t.strictSame((await post(`${url}/last`, message())).body, { last: 'Hello, world' })
})

t.test('the patterns that users of the other botas libraries know work with request.state', async (t) => {
  const { url } = await buildFastify(t, { storage: new FileStorage(t.testdir()), flush: 'onSend' }, (app) => {
    app.addHook('preHandler', async ({ state }) => { state.temp.set('requestId', randomUUID()) })
    app.post<{ Body: { text: string, from: { name?: string } } }>('/', async ({ state, body }) => {
      switch (body.text) {
        case 'counter': {
          const counter = (state.conversation.get<number>('counter') ?? 0) + 1
          state.conversation.set('counter', counter)
          return { counter }
        }
        case 'name': {
          let name = state.user.get<string>('displayName')
          if (!name) {
            name = body.from.name ?? 'User'
            state.user.set('displayName', name)
          }
          return { name }
        }
        case 'timestamp':
          state.conversation.set('lastMessageTime', new Date(0).toISOString())
          return { last: state.conversation.get<string>('lastMessageTime') }
        case 'preferences': {
          const preferences = state.user.get<Record<string, unknown>>('preferences') ?? {}
          const before = { ...preferences }
          preferences.language = 'en'
          preferences.timezone = 'UTC'
          state.user.set('preferences', preferences)
          return { before }
        }
        case 'temp':
          return { requestId: state.temp.get<string>('requestId') ?? 'unknown' }
        case 'paths':
          state.setValue('conversation.count', 5)
          state.setValue('foo', 'bar')
          return [state.getValue('conversation.count'), state.conversation.get('count'), state.temp.get('foo')]
        case 'crash':
          state.conversation.set('counter', 42)
          throw new Error('Simulated error')
      }
    })
  })
  const say = async (text: string) => (await post(url, { ...message({ text }), from: { id: 'user-1', name: 'Ada' } })).body
  t.strictSame(await say('counter'), { counter: 1 })
  t.strictSame(await say('counter'), { counter: 2 })
  t.match(await say('crash'), { statusCode: 500 })
  t.strictSame(await say('counter'), { counter: 3 })
  t.strictSame(await say('name'), { name: 'Ada' })
  t.strictSame(await say('timestamp'), { last: '1970-01-01T00:00:00.000Z' })
  t.strictSame(await say('preferences'), { before: {} })
  t.strictSame(await say('preferences'), { before: { language: 'en', timezone: 'UTC' } })
  t.match(await say('temp'), { requestId: /^[0-9a-f-]{36}$/ })
  t.strictSame(await say('paths'), [5, 5, 'bar'])
})
