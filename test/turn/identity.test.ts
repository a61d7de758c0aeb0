import t from 'tap'
import { MemoryStorage, type TurnIdentity, activityIdentity, conversationKey, userKey } from '../../lib/index.js'
import { message, recorded } from '../helpers/activities.js'
import { buildFastify, post } from '../helpers/build-fastify.js'

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
  t.strictSame(keys('directline-conversation-update'), [
    'directline/pim-bot@Xy12ZaBcDeF/conversations/3pXkq0Yd1ZzLh8s-eu', 'directline/pim-bot@Xy12ZaBcDeF/users/3pXkq0Yd1ZzLh8s-eu'
  ])
  const teams = 'msteams/28:0b6d7c4a-93f1-4e0e-8f43-aa55bb66cc77'
  const ada = `${teams}/users/29:1fKqv0Zx-7TnQm2d_LwUuYHc9s3pRj5EoAaBbCcDdEeFfGgHhIiJjKkLlMmNnOoPp`
  t.strictSame(keys('teams-channel-reply-no-replyToId'), [
    `${teams}/conversations/19:f3a1c9d07b2e4865a0d1e2f3a4b5c6d7@thread.tacv2;messageid=1763701234567`, ada
  ])
  t.strictSame(keys('teams-compose-extension-query'), [`${teams}/conversations/19:7c2b9e5d41f84a0f8a6c3d2e1b0a9f8e@thread.v2`, ada])
})

t.test('a recorded activity without a user has a conversation all the same', async (t) => {
  t.strictSame(activityIdentity(recorded('webchat-empty-user-id')), {
    channelId: 'webchat', botId: 'pim-bot@Xy12ZaBcDeF', conversationId: '8aBcDeFgHiJ-eu', userId: undefined
  })
  t.strictSame(activityIdentity(recorded('telegram-channel-post-from-missing')), {
    channelId: 'telegram', botId: 'pim_bot', conversationId: '-1009876543210', userId: undefined
  })
})

t.test('a skill, whose activities may name no bot, can say itself which bot it is', async (t) => {
  const toSkill = recorded('skill-end-of-conversation-recipient-role-only')
  const ids = {
    channelId: 'msteams',
    botId: 'my-skill',
    conversationId: '9f8e7d6c-5b4a-4938-8271-605f4e3d2c1b',
    userId: '29:1fKqv0Zx-7TnQm2d_LwUuYHc9s3pRj5EoAaBbCcDdEeFfGgHhIiJjKkLlMmNnOoPp'
  }
  t.equal(activityIdentity(toSkill), undefined)
  t.strictSame(activityIdentity(toSkill, { botId: 'my-skill' }), ids)
  t.strictSame(activityIdentity({ ...toSkill, recipient: {} }, { botId: 'my-skill' }), ids)
  t.strictSame(activityIdentity({ ...toSkill, recipient: { id: 'its caller' } }, { botId: 'my-skill' }), ids, 'and shares nothing with its caller')
  for (const botId of [undefined, '']) {
    t.equal(activityIdentity(toSkill, { botId }), undefined)
    t.equal(activityIdentity({ ...toSkill, recipient: { id: 'skill' } }, { botId })?.botId, 'skill')
  }
  for (const recipient of [undefined, null, 'skill', []]) t.equal(activityIdentity({ ...toSkill, recipient }, { botId: 'my-skill' }), undefined)
  t.throws(() => activityIdentity(toSkill, { botId: 'a\nb' }), { code: 'FST_BOTAS_STATE_INVALID_ID', message: /^"botId".*control/ })
})

t.test('ids stand in a key as they are', async (t) => {
  const identity = { channelId: 'ms teams', botId: '28:a', conversationId: '19:ü@thread.v2;messageid=1', userId: '🤖/1' }
  t.equal(conversationKey(identity), 'ms teams/28:a/conversations/19:ü@thread.v2;messageid=1')
  t.equal(userKey(identity), 'ms teams/28:a/users/🤖/1')
})

t.test('what has no channelId or no recipient is no activity', async (t) => {
  for (const body of [undefined, null, 1, 'text', [], [message()], {}, { channelId: 'c' }, { recipient: { id: 'b' } },
    { channelId: null, recipient: { id: 'b' } }, { channelId: 'c', recipient: null }, { channelId: '', recipient: { id: 'b' } }]) {
    t.equal(activityIdentity(body), undefined)
  }
})

t.test('what has a recipient that is no object, or no bot, is no activity', async (t) => {
  for (const recipient of ['ada@example.com', 7, true, [], [{ id: 'bot' }], {}, { id: null }, { id: '' }, { role: 'skill' }]) {
    t.equal(activityIdentity({ ...message(), recipient }), undefined, JSON.stringify(recipient))
  }
  t.equal(activityIdentity({ channelId: 7, recipient: 'ada@example.com' }), undefined)
})

t.test('an activity may have no conversation or no user', async (t) => {
  const ids = { channelId: 'test', botId: 'bot', conversationId: undefined, userId: undefined }
  t.strictSame(activityIdentity({ channelId: 'test', recipient: { id: 'bot' } }), ids)
  t.strictSame(activityIdentity({ ...message(), from: undefined }), { ...ids, conversationId: 'conversation-1' })
  t.strictSame(activityIdentity({ ...message(), from: {}, conversation: null }), ids)
  t.strictSame(activityIdentity({ ...message(), from: { id: null }, conversation: {} }), ids)
  t.strictSame(activityIdentity({ ...message(), from: { id: '' }, conversation: { id: '' } }), ids)
})

const badIds: Array<[unknown, RegExp]> = [
  [7, /a number/], [true, /a boolean/], [['a'], /an array/], [{}, /an object/], ['a'.repeat(1025), /1025 characters/],
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
    t.throws(() => activityIdentity({ ...message(), conversation: account }), { code: 'FST_BOTAS_STATE_INVALID_ID', message: /conversation\.id/ })
    t.throws(() => activityIdentity({ ...message(), from: account }), { code: 'FST_BOTAS_STATE_INVALID_ID', message: /from\.id/ })
  }
})

t.test('an id of 1,024 characters is fine', async (t) => {
  const id = '🤖'.repeat(512)
  t.equal(activityIdentity({ ...message(), conversation: { id } })?.conversationId, id)
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

t.test('a handler that does not touch a scope without an id runs, and one that does is told which id is missing', async (t) => {
  const { url } = await buildFastify(t, {}, (app) => {
    app.post('/nothing', async () => ({}))
    for (const scope of ['conversation', 'user'] as const) {
      app.post(`/${scope}`, async ({ state }) => ({ n: state.updateValue<number>(`${scope}.n`, (n = 0) => n + 1) }))
    }
  })
  const missing = async (scope: string, body: object, fields: string) => t.match(await post(`${url}/${scope}`, body), {
    status: 400, body: { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: new RegExp(`lacks ${fields}$`) }
  })
  const skill = recorded('skill-end-of-conversation-recipient-role-only')
  const webChat = recorded('webchat-empty-user-id')
  const channelPost = recorded('telegram-channel-post-from-missing')
  const mail = { channelId: 'newsletter', recipient: 'ada@example.com' }
  for (const body of [skill, { ...skill, recipient: {} }, webChat, channelPost, mail]) t.match(await post(`${url}/nothing`, body), { status: 200 })
  for (const body of [webChat, channelPost]) {
    t.match(await post(`${url}/conversation`, body), { status: 200, body: { n: 1 } })
    await missing('user', body, 'from\\.id')
  }
  await missing('conversation', skill, 'recipient\\.id')
  await missing('user', mail, 'recipient\\.id, from\\.id')
  await missing('user', { ...webChat, channelId: '' }, 'channelId, from\\.id')
})

t.test('a skill that says which bot it is shares no document with the bot that calls it', async (t) => {
  const storage = new MemoryStorage()
  const { url } = await buildFastify(t, { storage, identify: ({ body }) => activityIdentity(body, { botId: 'my-skill' }), flush: 'onSend' }, (app) => {
    app.post('/', async ({ state }) => { state.conversation.set('ended', true) })
  })
  t.match(await post(url, recorded('skill-end-of-conversation-recipient-role-only')), { status: 200 })
  const key = 'msteams/my-skill/conversations/9f8e7d6c-5b4a-4938-8271-605f4e3d2c1b'
  t.strictSame(await storage.read([key]), { [key]: { ended: true } })
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
