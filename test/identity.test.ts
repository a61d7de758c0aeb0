import t from 'tap'
import { type TurnIdentity, activityIdentity, conversationKey, userKey } from '../lib/index.js'
import { message, recorded } from './helpers/activities.js'

t.test('a recorded activity names its conversation and its user', async (t) => {
  const bot = '00000000-0000-0000-0000-00000000000011'
  const keys = (name: Parameters<typeof recorded>[0]) => {
    const identity = activityIdentity(recorded(name)) as TurnIdentity
    return [conversationKey(identity), userKey(identity)]
  }
  const personal = [`emulator/${bot}/conversations/d3a1b342-71de-4f29-849a-a3651eb2aca3`, `emulator/${bot}/users/user-id-0`]
  t.strictSame(keys('personal-message'), personal)
  t.strictSame(keys('personal-conversation-update'), personal)
  t.strictSame(keys('channel-conversation-update'), [`emulator/${bot}/conversations/channel-announcements-id`, `emulator/${bot}/users/user-id-0`])
})

t.test('ids stand in a key as they are', async (t) => {
  const identity = { channelId: 'ms teams', botId: '28:a', conversationId: '19:ü@thread.v2;messageid=1', userId: '🤖/1' }
  t.equal(conversationKey(identity), 'ms teams/28:a/conversations/19:ü@thread.v2;messageid=1')
  t.equal(userKey(identity), 'ms teams/28:a/users/🤖/1')
})

t.test('what has no channelId or no recipient is no activity', async (t) => {
  for (const body of [undefined, null, 1, 'text', [], [message()], {}, { channelId: 'c' }, { recipient: { id: 'b' } },
    { channelId: null, recipient: { id: 'b' } }, { channelId: 'c', recipient: null }]) {
    t.equal(activityIdentity(body), undefined)
  }
})

t.test('an activity may have no conversation or no user', async (t) => {
  const ids = { channelId: 'test', botId: 'bot', conversationId: undefined, userId: undefined }
  t.strictSame(activityIdentity({ channelId: 'test', recipient: { id: 'bot' } }), ids)
  t.strictSame(activityIdentity({ ...message(), from: undefined }), { ...ids, conversationId: 'conversation-1' })
  t.strictSame(activityIdentity({ ...message(), from: {}, conversation: null }), ids)
  t.strictSame(activityIdentity({ ...message(), from: { id: null }, conversation: {} }), ids)
})

const badIds: Array<[unknown, RegExp]> = [
  [7, /a number/], [true, /a boolean/], [['a'], /an array/], [{}, /an object/], ['', /empty/], ['a'.repeat(1025), /1025 characters/],
  ['a'.repeat(2 ** 21), /2097152 characters/], ['\ud800', /surrogate/], ['a\udc00b', /surrogate/], ['a\nb', /control/],
  ['\0', /control/], ['\x7f', /control/], ['\x85', /control/]
]

t.test('an id that cannot be part of a key is refused by the name of its field and not quoted', async (t) => {
  const fields = {
    channelId: (id: unknown) => ({ ...message(), channelId: id }),
    'recipient.id': (id: unknown) => ({ ...message(), recipient: { id } }),
    'conversation.id': (id: unknown) => ({ ...message(), conversation: { id } }),
    'from.id': (id: unknown) => ({ ...message(), from: { id } })
  }
  for (const [field, body] of Object.entries(fields)) {
    for (const [id, reason] of badIds) {
      const error = t.throws(() => activityIdentity(body(id))) as unknown as Error
      t.match(error, { code: 'FST_BOTAS_STATE_INVALID_ID', statusCode: 400 })
      t.match(error.message, new RegExp(`^"${field}" `))
      t.match(error.message, reason)
      t.ok(error.message.length < 200)
    }
  }
})

t.test('what holds an id has to be an object', async (t) => {
  for (const account of ['text', 7, true, []]) {
    t.throws(() => activityIdentity({ ...message(), recipient: account }), { code: 'FST_BOTAS_STATE_INVALID_ID', message: /recipient\.id/ })
    t.throws(() => activityIdentity({ ...message(), conversation: account }), { code: 'FST_BOTAS_STATE_INVALID_ID', message: /conversation\.id/ })
    t.throws(() => activityIdentity({ ...message(), from: account }), { code: 'FST_BOTAS_STATE_INVALID_ID', message: /from\.id/ })
  }
  t.throws(() => activityIdentity({ ...message(), recipient: {} }), { code: 'FST_BOTAS_STATE_INVALID_ID', message: /recipient\.id.*missing/ })
})

t.test('an id of 1,024 characters is fine', async (t) => {
  const id = '🤖'.repeat(512)
  t.equal(activityIdentity({ ...message(), conversation: { id } })?.conversationId, id)
})

t.test('a key needs the ids that it is made of', async (t) => {
  const identity: TurnIdentity = { channelId: 'c', botId: 'b' }
  t.throws(() => conversationKey(identity), { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /conversationId/ })
  t.throws(() => userKey(identity), { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /userId/ })
  t.throws(() => userKey({ userId: 'u' } as unknown as TurnIdentity), { code: 'FST_BOTAS_STATE_INVALID_ID', message: /channelId/ })
  t.throws(() => userKey({ channelId: 'c', userId: 'u' } as unknown as TurnIdentity), { code: 'FST_BOTAS_STATE_INVALID_ID', message: /botId/ })
  for (const [id] of badIds) {
    t.throws(() => conversationKey({ ...identity, conversationId: id as string }), { code: 'FST_BOTAS_STATE_INVALID_ID', message: /conversationId/ })
  }
})
