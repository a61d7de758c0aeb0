import { once } from 'node:events'
import { readFile, readdir } from 'node:fs/promises'
import { type IncomingMessage, createServer } from 'node:http'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { recorded } from '../helpers/activities.js'
import { spawnExample, startExample } from '../helpers/bot-process.js'
import { post } from '../helpers/build-fastify.js'
import { message, say } from '../helpers/counter-bot.js'
import { openSocket } from '../helpers/raw-client.js'

const COUNTER_BOT = 'counter-bot/main.ts'
/** Milliseconds on a busy machine; Fastify would keep an idle connection open for 72 seconds. */
const IN_A_MOMENT = 5000

interface Delivery {
  path: string | undefined
  activity: Record<string, unknown>
}

/** The channel's side, where replies are posted to. */
async function startChannel (t: Test, status = 200): Promise<{ serviceUrl: string, deliveries: Delivery[] }> {
  const deliveries: Delivery[] = []
  const server = createServer(async (request: IncomingMessage, response) => {
    let text = ''
    for await (const chunk of request) text += chunk
    deliveries.push({ path: request.url, activity: JSON.parse(text) })
    response.writeHead(status).end('{}')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.close() })
  return { serviceUrl: `http://127.0.0.1:${(server.address() as { port: number }).port}/_connector`, deliveries }
}

t.test('the bot counts, and forgets nothing over a restart', async (t) => {
  const directory = t.testdir()
  let bot = await startExample(t, COUNTER_BOT, directory)
  t.equal(await say(bot, 'Hello'), 'Turn #1 | Your message #1: Hello')
  t.equal(await say(bot, 'How are you?'), 'Turn #2 | Your message #2: How are you?')
  t.equal(await say(bot, 'whoami'), 'You are user-123. You have sent 2 message(s).')
  t.equal(await bot.stop('SIGTERM'), 0)
  t.strictSame((await readdir(join(directory, 'state-data'))).sort(), ['test%2Fbot%2Fconversations%2Fconversation-1.json', 'test%2Fbot%2Fusers%2Fuser-123.json'])
  t.equal(await readFile(join(directory, 'state-data', 'test%2Fbot%2Fconversations%2Fconversation-1.json'), 'utf8'), '{"turn_count":2}')
  t.equal(await readFile(join(directory, 'state-data', 'test%2Fbot%2Fusers%2Fuser-123.json'), 'utf8'), '{"user_message_count":2}')

  bot = await startExample(t, COUNTER_BOT, directory)
  t.equal(await say(bot, 'Again'), 'Turn #3 | Your message #3: Again')
  t.equal(await say(bot, 'Elsewhere', { conversation: { id: 'conversation-2' } }), 'Turn #1 | Your message #4: Elsewhere')
  t.equal(await say(bot, 'Me too', { from: { id: 'user-456' } }), 'Turn #4 | Your message #1: Me too')
  t.equal(await bot.stop('SIGINT'), 0)
})

t.test('whoami may come first, and a message may have no text', async (t) => {
  const bot = await startExample(t, COUNTER_BOT, t.testdir())
  t.equal(await say(bot, 'whoami'), 'You are user-123. You have sent 0 message(s).')
  t.equal((await post(bot.url, message(undefined))).body.activities[0].text, 'Turn #1 | Your message #1: ')
  const { body } = await post(bot.url, message('reset', { from: undefined }))
  t.strictSame(body.activities[0].recipient, undefined)
  await bot.stop()
})

t.test('reset clears the conversation and does not count', async (t) => {
  const bot = await startExample(t, COUNTER_BOT, t.testdir())
  await say(bot, 'Hello')
  t.equal(await say(bot, 'reset'), 'Counters reset!')
  t.equal(await say(bot, 'whoami'), 'You are user-123. You have sent 1 message(s).')
  t.equal(await say(bot, 'Hello'), 'Turn #1 | Your message #2: Hello')
  await bot.stop()
})

t.test('a crash is a 500, and nothing of its turn is saved', async (t) => {
  const bot = await startExample(t, COUNTER_BOT, t.testdir())
  await say(bot, 'Hello')
  t.equal((await post(bot.url, message('crash'))).status, 500)
  t.equal(await say(bot, 'whoami'), 'You are user-123. You have sent 1 message(s).')
  t.equal(await say(bot, 'Hello'), 'Turn #2 | Your message #2: Hello')
  await bot.stop()
})

t.test('other activities get a 200 and no reply', async (t) => {
  const bot = await startExample(t, COUNTER_BOT, t.testdir())
  for (const name of ['personal-conversation-update', 'channel-conversation-update'] as const) {
    t.match(await post(bot.url, recorded(name)), { status: 200, text: '{}' })
  }
  await bot.stop()
})

t.test('a reply is posted to the channel that the activity came from', async (t) => {
  const { serviceUrl, deliveries } = await startChannel(t)
  const bot = await startExample(t, COUNTER_BOT, t.testdir())
  const activity = { ...recorded('personal-message'), serviceUrl }
  t.match(await post(bot.url, activity), { status: 200, text: '{}' })
  const odd = { deliveryMode: undefined, serviceUrl: `${serviceUrl}/`, id: 'a/b?', conversation: { id: '19:ü@thread.v2;messageid=1' } }
  t.match(await post(bot.url, message('Hello', odd)), { status: 200, text: '{}' })
  t.match(await post(bot.url, message('Hello', { ...odd, id: undefined })), { status: 200, text: '{}' })
  t.match(deliveries, [
    {
      path: `/_connector/v3/conversations/${activity.conversation.id}/activities/${activity.id}`,
      activity: {
        type: 'message',
        text: 'Turn #1 | Your message #1: hello from personal',
        channelId: 'emulator',
        conversation: { id: activity.conversation.id },
        from: activity.recipient,
        recipient: activity.from,
        replyToId: activity.id
      }
    },
    { path: '/_connector/v3/conversations/19%3A%C3%BC%40thread.v2%3Bmessageid%3D1/activities/a%2Fb%3F' },
    { path: '/_connector/v3/conversations/19%3A%C3%BC%40thread.v2%3Bmessageid%3D1/activities' }
  ])
  await bot.stop()
})

t.test('a channel that cannot be reached, or refuses, fails the turn', async (t) => {
  const bot = await startExample(t, COUNTER_BOT, t.testdir())
  const refusing = await startChannel(t, 403)
  const closed = 'http://127.0.0.1:9'
  t.match((await post(bot.url, message('Hello', { deliveryMode: 'normal', serviceUrl: closed }))), {
    status: 502, body: { code: 'REPLY_NOT_DELIVERED', message: /127\.0\.0\.1:9: \S/ }
  })
  t.match((await post(bot.url, message('Hello', { deliveryMode: 'normal', serviceUrl: refusing.serviceUrl }))), {
    status: 502, body: { message: /status 403/ }
  })
  for (const serviceUrl of [undefined, 'ftp://localhost', 'http://', 'nonsense', 7]) {
    t.match((await post(bot.url, message('Hello', { deliveryMode: 'normal', serviceUrl }))), {
      status: 400, body: { code: 'INVALID_SERVICE_URL', message: /serviceUrl/ }
    })
  }
  t.equal(await say(bot, 'Hello'), 'Turn #1 | Your message #1: Hello')
  await bot.stop()
})

t.test('what is no activity is a 4xx that names the field', async (t) => {
  const bot = await startExample(t, COUNTER_BOT, t.testdir())
  const bodies: Array<[unknown, RegExp]> = [
    [{}, /type/], [null, /body must be object/], [[], /body must be object/], [{ type: 'message' }, /channelId/],
    [message('Hello', { recipient: undefined }), /recipient/], [message('Hello', { conversation: {} }), /conversation.*id/],
    [message('Hello', { from: undefined }), /from\.id/], [message('Hello', { recipient: { id: 7 } }), /recipient\.id/],
    [message({ a: 1 }), /text/]
  ]
  for (const [body, field] of bodies) t.match(await post(bot.url, body), { status: 400, body: { code: /^FST_/, message: field } })
  await bot.stop()
})

t.test('it prints one line, with a curl that works', async (t) => {
  const bot = await startExample(t, COUNTER_BOT, t.testdir(), { STATE_STORAGE: 'memory:' })
  t.equal(bot.output().trim().split('\n').length, 1)
  const [, url, body] = /curl (\S+) -H 'content-type: application\/json' -d '(.*)'$/.exec(bot.output().trim()) as unknown as string[]
  t.equal((await post(url as string, JSON.parse(body as string))).body.activities[0].text, 'Turn #1 | Your message #1: How are you?')
  t.strictSame(await readdir(t.testdirName), [], 'STATE_STORAGE decides where state goes')
  await bot.stop()
})

t.test('it stops in a moment though a client keeps its connection open', async (t) => {
  const bot = await startExample(t, COUNTER_BOT, t.testdir())
  await say(bot, 'Hello')
  const before = Date.now()
  t.equal(await bot.stop(), 0)
  t.ok(Date.now() - before < IN_A_MOMENT)
})

t.test('it stops in a moment though a client has connected and says nothing', async (t) => {
  const bot = await startExample(t, COUNTER_BOT, t.testdir())
  const socket = await openSocket(Number(new URL(bot.url).port))
  await say(bot, 'Hello')
  const before = Date.now()
  t.equal(await bot.stop(), 0)
  t.ok(Date.now() - before < IN_A_MOMENT)
  socket.destroy()
})

t.test('a port that is taken is said in one line', async (t) => {
  const bot = await startExample(t, COUNTER_BOT, t.testdir())
  const second = spawnExample(COUNTER_BOT, t.testdirName, { HOST: '127.0.0.1', PORT: new URL(bot.url).port })
  let output = ''
  second.stderr?.on('data', (chunk) => { output += chunk })
  t.strictSame(await once(second, 'exit'), [1, null])
  t.match(output, /^The bot cannot listen on HOST=127.0.0.1 PORT=\d+: .*EADDRINUSE.*\n$/)
  await bot.stop()
})
