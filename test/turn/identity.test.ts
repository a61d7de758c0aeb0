import t from 'tap'
import { type TurnIdentity, conversationKey, userKey } from '../../lib/index.js'
import { CONVERSATION_KEY, USER_KEY, badIds, message } from '../helpers/activities.js'
import { buildFastify, post, settled } from '../helpers/build-fastify.js'
import { RecordingStorage } from '../helpers/recording-storage.js'

t.test('a turn may have only one of the two persisted scopes, or none', async (t) => {
  const storage = new RecordingStorage()
  const { url } = await buildFastify(t, { storage }, (app) => {
    app.post<{ Querystring: { use: 'conversation' | 'user' } }>('/', async ({ state, query }) => {
      state.setValue(`${query.use}.n`, 1)
      return {}
    })
  })
  const withoutUser = { ...message(), from: undefined }
  const withoutConversation = { ...message(), conversation: undefined }
  t.equal((await post(`${url}/?use=conversation`, withoutUser)).status, 200)
  t.equal((await post(`${url}/?use=user`, withoutConversation)).status, 200)
  await settled(() => storage.count('update') === 2)
  t.match((await post(`${url}/?use=user`, withoutUser)).body, { code: 'FST_BOTAS_STATE_NOT_A_TURN', statusCode: 400, message: /user state.*from\.id$/ })
  t.match((await post(`${url}/?use=conversation`, withoutConversation)).body, { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /conversation state.*conversation\.id$/ })
  t.match((await post(`${url}/?use=user`, { ...withoutUser, conversation: {} })).body, { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /from\.id$/ })
  t.strictSame(storage.calls.filter(([method]) => method === 'read').map(([, keys]) => keys), [[CONVERSATION_KEY], [USER_KEY], [CONVERSATION_KEY], [USER_KEY]])
})

t.test('ids stand in a key as they are', async (t) => {
  const identity = { channelId: 'ms teams', botId: '28:a', conversationId: '19:ü@thread.v2;messageid=1', userId: '🤖/1' }
  t.equal(conversationKey(identity), 'ms teams/28:a/conversations/19:ü@thread.v2;messageid=1')
  t.equal(userKey(identity), 'ms teams/28:a/users/🤖/1')
})

t.test('a key needs the ids that it is made of', async (t) => {
  const identity: TurnIdentity = { channelId: 'c', botId: 'b' }
  for (const id of [undefined, null, '']) {
    t.throws(() => conversationKey({ ...identity, conversationId: id }), { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /conversationId/ })
    t.throws(() => userKey({ ...identity, userId: id }), { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /userId/ })
  }
  for (const [id, flaw] of [[undefined, 'missing'], [null, 'missing'], ['', 'empty']]) {
    for (const name of ['channelId', 'botId']) {
      t.throws(() => userKey({ ...identity, userId: 'u', [name]: id }), { code: 'FST_BOTAS_STATE_INVALID_ID', message: new RegExp(`^"${name}" .*${flaw}`) })
    }
  }
  for (const [id] of badIds) {
    t.throws(() => conversationKey({ ...identity, conversationId: id as string }), { code: 'FST_BOTAS_STATE_INVALID_ID', message: /conversationId/ })
  }
})

t.test('a turn without a request needs a channel and a bot', async (t) => {
  const { app } = await buildFastify(t, {}, () => {})
  const whole = { channelId: 'test', botId: 'bot', conversationId: null, userId: 'user-1' }
  for (const name of ['channelId', 'botId']) {
    for (const id of [undefined, null, '']) {
      await t.rejects(app.botasState.run({ ...whole, [name]: id }, () => {}), { code: 'FST_BOTAS_STATE_INVALID_ID', message: new RegExp(name) })
    }
  }
  for (const conversationId of [undefined, null, '']) {
    await app.botasState.run({ ...whole, conversationId }, ({ conversation, user }) => {
      user.update<number>('n', (n = 0) => n + 1)
      t.throws(() => conversation.get('n'), { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /lacks conversationId$/ })
    })
  }
  t.equal(await app.botasState.run(whole, ({ user }) => user.get('n')), 3)
})
