import t from 'tap'
import { type BotProcess, startExample } from '../helpers/bot-process.js'
import { startRedis } from '../helpers/redis-server.js'

const WEBHOOK_BOT = 'webhook/main.ts'
const ADA = { id: 7, is_bot: false, first_name: 'Ada' }
const ZOE = { id: 8, is_bot: false, first_name: 'Zoë' }

let lastUpdate = 0

/** A message of somebody's in a chat, as Telegram posts it. */
function update (chat: number, from: object | undefined, text: string) {
  return { update_id: ++lastUpdate, message: { message_id: lastUpdate, date: 0, chat: { id: chat, type: 'group' }, from, text } }
}

async function deliver (bot: BotProcess, body: object, headers: Record<string, string> = {}) {
  const response = await fetch(bot.url, {
    method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body)
  })
  return { status: response.status, body: await response.json() as { text?: string } }
}

t.test('a webhook bot knows its chats and its users apart', async (t) => {
  const bot = await startExample(t, WEBHOOK_BOT, t.testdir({}))
  const say = async (...args: Parameters<typeof update>) => (await deliver(bot, update(...args))).body
  t.strictSame(await say(-100, ADA, 'Hi'), { method: 'sendMessage', chat_id: -100, text: 'Hello Ada, this is message #1 of this chat.' })
  t.match(await say(-100, ZOE, 'Hi'), { text: 'Hello Zoë, this is message #2 of this chat.' })
  t.match(await say(-100, ADA, '/name Countess'), { text: 'Hello Countess, this is message #3 of this chat.' })
  t.match(await say(-200, ADA, 'Hi'), { text: 'Hello Countess, this is message #1 of this chat.' })
  t.match(await say(-200, ZOE, 'Hi'), { text: 'Hello Zoë, this is message #2 of this chat.' })
  t.match(await say(-300, undefined, 'News'), { text: 'Message #1 of this channel.' })
})

t.test('a post in a channel, which has no user, belongs to the channel', async (t) => {
  const bot = await startExample(t, WEBHOOK_BOT, t.testdir({}))
  for (const n of [1, 2]) {
    const post = { message_id: n, date: 0, chat: { id: -1009876543210, type: 'channel' }, sender_chat: { id: -1009876543210 }, text: 'news' }
    t.strictSame(await deliver(bot, { update_id: ++lastUpdate, channel_post: post }), {
      status: 200, body: { method: 'sendMessage', chat_id: -1009876543210, text: `Message #${n} of this channel.` }
    })
  }
})

t.test('an update that is not as Telegram posts it is refused', async (t) => {
  const bot = await startExample(t, WEBHOOK_BOT, t.testdir({}))
  for (const message of ['text', {}, { chat: {} }, { chat: { id: -100 }, from: {} }, { chat: { id: -100 }, from: 'Ada' }, { chat: { id: 'x' } }]) {
    for (const name of ['message', 'channel_post']) t.match(await deliver(bot, { update_id: ++lastUpdate, [name]: message }), { status: 400 })
  }
})

t.test('an update that is delivered twice is answered once, also after a restart', async (t) => {
  const directory = t.testdir({})
  const bot = await startExample(t, WEBHOOK_BOT, directory)
  const once = update(-100, ADA, 'Hi')
  const first = await deliver(bot, once)
  t.match(first, { status: 200, body: { method: 'sendMessage', text: /message #1/ } })
  t.strictSame(await deliver(bot, once), first)
  t.equal(await bot.stop(), 0)
  const restarted = await startExample(t, WEBHOOK_BOT, directory)
  t.strictSame(await deliver(restarted, once), first)
  t.match(await deliver(restarted, update(-100, ADA, 'Hi')), { body: { text: /message #2/ } })
})

t.test('of 50 updates, each delivered to two replicas on Redis at once, none is counted twice', async (t) => {
  const { url } = await startRedis(t)
  const directory = t.testdir({})
  const replicas = await Promise.all([1, 2].map(() => startExample(t, WEBHOOK_BOT, directory, { STATE_STORAGE: url })))
  const updates = Array.from({ length: 50 }, () => update(-100, ADA, 'Hi'))
  const texts = new Set<unknown>()
  const talk = async () => {
    for (let next = updates.pop(); next !== undefined; next = updates.pop()) {
      const update = next
      const [one, other] = await Promise.all(replicas.map((replica) => deliver(replica, update)))
      t.strictSame(one, other)
      texts.add(one?.body.text)
    }
  }
  await Promise.all(Array.from({ length: 5 }, talk))
  t.equal(texts.size, 50)
  t.match(await deliver(replicas[0] as typeof replicas[0] & {}, update(-100, ADA, 'Hi')), { body: { text: /message #51/ } })
})

t.test('an update that is no message is no turn', async (t) => {
  const bot = await startExample(t, WEBHOOK_BOT, t.testdir({}))
  t.strictSame(await deliver(bot, { update_id: ++lastUpdate, edited_message: { chat: { id: -100 } } }), { status: 200, body: {} })
  t.match(await deliver(bot, { no: 'update' }), { status: 400 })
})

t.test('a webhook with a secret lets nobody else in', async (t) => {
  const bot = await startExample(t, WEBHOOK_BOT, t.testdir({}), { TELEGRAM_SECRET: 'swordfish' })
  const headers = (secret: string) => ({ 'x-telegram-bot-api-secret-token': secret })
  t.match(await deliver(bot, update(-100, ADA, 'Hi')), { status: 401 })
  t.match(await deliver(bot, update(-100, ADA, 'Hi'), headers('sword')), { status: 401 })
  t.match(await deliver(bot, update(-100, ADA, 'Hi'), headers('swordfisk')), { status: 401 })
  t.match(await deliver(bot, update(-100, ADA, 'Hi'), headers('swordfish')), { status: 200, body: { text: /message #1/ } })
})
