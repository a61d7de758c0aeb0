import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import multipart from '@fastify/multipart'
import Fastify from 'fastify'
import t from 'tap'
import botasState, { type TurnIdentity, FileStorage, MemoryStorage, activityIdentity, conversationKey, userKey } from '../../lib/index.js'
import { CONVERSATION_KEY, USER_KEY, badIds, message, recorded } from '../helpers/activities.js'
import { buildFastify, listen, post } from '../helpers/build-fastify.js'
import { slowStorage } from '../helpers/slow-storage.js'

t.test('what a real chat client posts is remembered', async (t) => {
  const { url } = await buildFastify(t, {}, (app) => {
    app.post('/', async ({ state: { conversation } }) => ({ n: conversation.update<number>('n', (n = 0) => n + 1) }))
  })
  t.strictSame((await post(url, recorded('personal-conversation-update'))).body, { n: 1 })
  t.strictSame((await post(url, recorded('personal-message'))).body, { n: 2 })
  t.strictSame((await post(url, recorded('channel-conversation-update'))).body, { n: 1 })
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

t.test('a bad activity is a 4xx that names the field, and stores nothing', async (t) => {
  const directory = join(t.testdir(), 'state')
  const { url } = await buildFastify(t, { storage: new FileStorage(directory), flush: 'onSend' }, (app) => {
    app.post('/', async ({ state }) => {
      state.conversation.set('n', 1)
      state.user.set('n', 1)
      return {}
    })
  }, { bodyLimit: 2 ** 23 })

  const noActivity: unknown[] = [{}, [], null, 'text', 7, [message()], { channelId: 'test' }, { recipient: { id: 'bot' } },
    { ...message(), channelId: null }, { ...message(), channelId: '' }, { ...message(), recipient: 'bot' }, { ...message(), recipient: { id: '' } }]
  for (const body of noActivity) {
    t.match(await post(url, body), { status: 400, body: { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /channelId|recipient\.id/ } }, JSON.stringify(body))
  }
  const half: Array<[unknown, RegExp]> = [
    [{ ...message(), conversation: undefined }, /conversation\.id/],
    [{ ...message(), conversation: {} }, /conversation\.id/],
    [{ ...message(), conversation: { id: '' } }, /conversation\.id/],
    [{ ...message(), from: null }, /from\.id/],
    [{ ...message(), from: { id: '' } }, /from\.id/]
  ]
  for (const [body, field] of half) {
    t.match(await post(url, body), { status: 400, body: { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: field } })
  }
  const ids: unknown[] = [7, true, ['a'], { id: 'a' }, 'x'.repeat(2 ** 21), 'a\u0000', 'line\nbreak', '\u009f']
  const fields: Array<[(id: unknown) => unknown, RegExp]> = [
    [(id) => ({ ...message(), channelId: id }), /"channelId"/],
    [(id) => ({ ...message(), recipient: { id } }), /"recipient\.id"/],
    [(id) => ({ ...message(), conversation: { id } }), /"conversation\.id"/],
    [(id) => ({ ...message(), from: { id } }), /"from\.id"/]
  ]
  for (const [body, field] of fields) {
    for (const id of ids) {
      const { status, body: answer } = await post(url, body(id))
      t.equal(status, 400)
      t.match(answer, { code: 'FST_BOTAS_STATE_INVALID_ID', message: field })
    }
    // As the escape that JSON has for it, since UTF-8 has none.
    const lone = JSON.stringify(body('LONE')).replace('LONE', '\\ud800')
    const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: lone })
    t.equal(response.status, 400)
    t.match(await response.json(), { code: 'FST_BOTAS_STATE_INVALID_ID', message: field })
  }
  for (const body of ['', '{', 'nonsense']) {
    const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    t.equal(response.status, 400)
  }
  t.equal((await fetch(url, { method: 'POST', body: JSON.stringify(message()) })).status, 400, 'plain text')
  t.equal((await fetch(url, { method: 'POST' })).status, 400, 'no body at all')

  await t.rejects(readdir(directory), { code: 'ENOENT' })
  t.equal((await post(url, message())).status, 200, 'and the server is well')
  t.equal((await readdir(directory)).length, 2)
})
