import { request } from 'node:http'
import { setTimeout as wait } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { FileStorage, type Storage } from 'fastify-botas-state'
import { type Talk, talk } from 'fastify-botas-state/testing'
import t, { type Test } from 'tap'
import { buildBot } from '../../example/ai-sdk/bot.js'
import { buildPretendProvider } from '../../example/ai-sdk/pretend-provider.js'
import { transportTo } from '../../example/ai-sdk/transport.js'
import { startExample } from '../helpers/bot-process.js'
import { settled } from '../helpers/build-fastify.js'
import { LeasingStorage, newServer } from '../helpers/leasing-storage.js'

/** A message, as the SDK has it and as its provider gets it. */
interface ModelMessage {
  role: string
  content: string
}

/** A call of the model, as its provider sees it. */
interface Call {
  messages: ModelMessage[]
  authorization: string | undefined
  outcome: 'at work' | 'answered' | 'client left'
}

interface Provider {
  url: string
  calls: Call[]
}

/** A provider that records what it is asked, and of which some answers break off. */
async function startProvider (t: Test): Promise<Provider> {
  const provider = buildPretendProvider()
  const calls: Call[] = []
  provider.addHook<{ Body: { messages: ModelMessage[] } }>('preHandler', async ({ body: { messages }, headers: { authorization } }, reply) => {
    const call: Call = { messages, authorization, outcome: 'at work' }
    calls.push(call)
    reply.raw.once('close', () => { call.outcome = reply.raw.writableFinished ? 'answered' : 'client left' })
    const text = messages.at(-1)?.content
    if (text === 'refuse') return reply.code(401).send({ error: { message: 'wrong key' } })
    if (text !== 'break' && text !== 'cut') return
    reply.hijack()
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream' })
    reply.raw.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: 'Half an ' } }] })}\n\n`)
    await wait(20)
    if (text === 'break') reply.raw.destroy()
    else reply.raw.end()
  })
  t.teardown(() => provider.close())
  return { url: `${await provider.listen({ host: '127.0.0.1', port: 0 })}/v1`, calls }
}

interface Assistant {
  app: FastifyInstance
  ada: Talk
  calls: Call[]
}

async function start (t: Test, storage: Storage = new LeasingStorage(newServer(), 10), env: NodeJS.ProcessEnv = {}, headers = {}): Promise<Assistant> {
  const { url, calls } = await startProvider(t)
  const app = await buildBot(storage, { OPENAI_BASE_URL: url, ...env })
  // What is expected to fail here is not for the report of the tests.
  app.log.level = 'silent'
  t.teardown(() => app.close())
  const ada = talk(app, { channelId: 'chat', botId: 'assistant', conversationId: 'c', userId: 'ada' }, {
    url: '/api/chat',
    headers,
    payload: ({ id, text }) => ({ id: 'c', messageId: id, user: 'ada', text })
  })
  return { app, ada, calls }
}

/** The parts of a UI message stream. */
function partsOf (body: string): Array<{ type: string, delta?: string }> {
  return body.split('\n\n').filter((line) => line.startsWith('data: {')).map((line) => JSON.parse(line.slice(6)))
}

function textOf (body: string): string {
  return partsOf(body).map(({ delta = '' }) => delta).join('')
}

function turn (question: string, answer: string): ModelMessage[] {
  return [{ role: 'user', content: question }, { role: 'assistant', content: answer }]
}

t.test('it answers, and remembers after a restart', async (t) => {
  const directory = t.testdir()
  const before = await start(t, new FileStorage(directory))
  t.equal(textOf((await before.ada.says('Hi')).body), 'Turn #1: Hi')
  await before.app.close()
  const after = await start(t, new FileStorage(directory))
  t.equal(textOf((await after.ada.says('Hi again')).body), 'Turn #2: Hi again')
  t.strictSame(after.calls[0]?.messages, [...turn('Hi', 'Turn #1: Hi'), { role: 'user', content: 'Hi again' }])
  t.strictSame(await after.ada.state(), {
    conversation: { messages: [...turn('Hi', 'Turn #1: Hi'), ...turn('Hi again', 'Turn #2: Hi again')] }, user: {}
  })
})

t.test('the model is shown the last 20 messages, and no more are kept', async (t) => {
  const { ada, calls } = await start(t)
  for (let n = 1; n <= 12; n++) await ada.says(`${n}`)
  const { messages } = (await ada.state()).conversation as { messages: ModelMessage[] }
  t.equal(messages.length, 20)
  t.equal(messages[0]?.content, '3')
  t.equal(calls.at(-1)?.messages.length, 21)
})

t.test('of two messages at once the second one is asked with the answer to the first one', async (t) => {
  const { ada, calls } = await start(t)
  const answers = await ada.saysAtOnce(['slow', 'Hi'])
  t.strictSame(answers.map(({ body }) => textOf(body)), ['Turn #1: slow', 'Turn #2: Hi'])
  t.strictSame(calls.map(({ messages }) => messages), [
    [{ role: 'user', content: 'slow' }],
    [...turn('slow', 'Turn #1: slow'), { role: 'user', content: 'Hi' }]
  ])
})

for (const [text, what] of Object.entries({
  fail: 'a model that fails in mid-answer',
  cut: 'an answer that ends before it is finished',
  break: 'a provider whose connection breaks',
  refuse: 'a provider that refuses the call'
})) {
  t.test(`of ${what} nothing is stored, the client is told, and the message may come again`, async (t) => {
    const { app, ada, calls } = await start(t)
    await ada.says('Hi')
    if (text === 'break') {
      const url = await app.listen({ host: '127.0.0.1', port: 0 })
      await t.rejects(post(`${url}/api/chat`, { id: 'c', messageId: 'm', user: 'ada', text }).then((response) => response.text()))
    } else {
      const { statusCode, body } = await ada.says(text)
      t.equal(statusCode, 200)
      t.match(partsOf(body).find(({ type }) => type === 'error'), { errorText: 'An error occurred.' })
      await ada.redelivers()
      t.equal(calls.length, 3)
    }
    t.strictSame(await ada.state(), { conversation: { messages: turn('Hi', 'Turn #1: Hi') }, user: {} })
    t.equal(textOf((await ada.says('Hi again')).body), 'Turn #2: Hi again')
  })
}

t.test('without a provider it can be tried offline', async (t) => {
  const bot = await startExample(t, 'ai-sdk/main.ts', t.testdir())
  const said = { id: 'c', messageId: '1', user: 'ada', text: 'Hi' }
  t.equal(textOf(await (await post(bot.url, said)).text()), 'Turn #1: Hi')
  t.equal(await bot.stop(), 0)
})

t.test('what fails is logged once, without what was said', async (t) => {
  const { url } = await startProvider(t)
  const bot = await startExample(t, 'ai-sdk/main.ts', t.testdir(), { OPENAI_BASE_URL: url, STATE_STORAGE: 'memory:' })
  const said = { id: 'c', messageId: '1', user: 'ada' }
  await (await post(bot.url, { ...said, text: 'My secret is 42' })).text()
  for (const text of ['fail', 'cut', 'refuse', 'break']) {
    const before = bot.output().length
    await post(bot.url, { ...said, messageId: text, text }).then((response) => response.text()).catch(() => {})
    await settled(() => bot.output().length > before)
    await wait(50)
    const lines = bot.output().slice(before).trim().split('\n')
    t.equal(lines.length, 1, lines.join('\n'))
  }
  t.notMatch(bot.output(), /secret/)
  t.equal(await bot.stop(), 0)
})

t.test('a slow answer is stored whole, and the next message sees it', async (t) => {
  const { ada } = await start(t)
  const slow = ada.says('slow')
  await wait(100)
  t.equal(textOf((await ada.says('Hi')).body), 'Turn #2: Hi')
  t.equal(textOf((await slow).body), 'Turn #1: slow')
})

t.test('an answer comes word by word', async (t) => {
  const { app, calls } = await start(t)
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const { body } = await post(`${url}/api/chat`, { id: 'c', messageId: '1', user: 'ada', text: 'slow' })
  let text = ''
  for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
    if (text === '' && (text = textOf(Buffer.from(chunk).toString())) !== '') t.equal(calls[0]?.outcome, 'at work')
  }
  t.equal(text, 'Turn ')
})

t.test('a client that leaves stops the model; nothing is remembered, and the same message gets a whole answer', async (t) => {
  const { ada, calls } = await start(t)
  await ada.leavesDuring('slow')
  await settled(() => calls[0]?.outcome !== 'at work')
  t.equal(calls[0]?.outcome, 'client left')
  t.strictSame(await ada.state(), { conversation: {}, user: {} })
  t.equal(textOf((await ada.redelivers()).body), 'Turn #1: slow')
  t.equal(calls.length, 2)
})

t.test('a client that left while its message waited is not answered', async (t) => {
  const { app, ada, calls } = await start(t)
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const slow = ada.says('slow')
  await settled(() => calls.length === 1)
  const client = request(`${url}/api/chat`, { method: 'POST', headers: { 'content-type': 'application/json' } }).on('error', () => {})
  client.end(JSON.stringify({ id: 'c', messageId: 'm', user: 'ada', text: 'Never mind' }))
  await settled(() => app.botasState.stats.waitingTurns === 1)
  client.destroy()
  await slow
  t.strictSame((await ada.state()).conversation, { messages: turn('slow', 'Turn #1: slow') })
  t.not(calls[1]?.outcome, 'answered')
})

t.test('a server that closes breaks off its answers, and remembers nothing of them', async (t) => {
  const server = newServer()
  const { app, ada, calls } = await start(t, new LeasingStorage(server, 10))
  const answer = ada.says('slow')
  await settled(() => calls.length === 1)
  await app.close()
  t.match(partsOf((await answer).body).at(-1), { type: 'abort' })
  t.equal(server.documents.size, 0)
  await settled(() => calls[0]?.outcome === 'client left')
})

t.test('a message that comes twice is asked once; what was answered can be read', async (t) => {
  const { app, ada, calls } = await start(t)
  const first = ada.says('slow')
  const second = ada.redelivers()
  t.equal(textOf((await first).body), 'Turn #1: slow')
  for (const { statusCode, headers, body } of [await second, await ada.redelivers()]) {
    t.match({ statusCode, headers, body }, { statusCode: 200, headers: { 'botas-state': 'replayed' }, body: '' })
  }
  t.equal(calls.length, 1)
  t.strictSame((await app.inject('/api/chat/c')).json(), turn('slow', 'Turn #1: slow'))
  t.strictSame((await app.inject('/api/chat/another')).json(), [])
})

t.test('a conversation that is read while a message is answered has the answer', async (t) => {
  const { app, ada, calls } = await start(t)
  const answer = ada.says('slow')
  await settled(() => calls.length === 1)
  t.strictSame((await app.inject('/api/chat/c')).json(), turn('slow', 'Turn #1: slow'))
  await answer
})

t.test('with ASSISTANT_KEY a stranger is refused, and nothing is loaded', async (t) => {
  const env = { ASSISTANT_KEY: 'key', OPENAI_API_KEY: 'key of the provider' }
  const { app, ada, calls } = await start(t, undefined, env, { authorization: 'Bearer key' })
  const payload = { id: 'c', messageId: 'm', user: 'ada', text: 'Hi' }
  for (const headers of [{}, { authorization: 'Bearer' }, { authorization: 'Bearer kez' }, { authorization: 'key' }]) {
    t.equal((await app.inject({ method: 'POST', url: '/api/chat', headers, payload })).statusCode, 401)
    t.equal((await app.inject({ url: '/api/chat/c', headers })).statusCode, 401)
  }
  t.equal(app.botasState.stats.loads, 0)
  t.equal(calls.length, 0)
  t.equal(textOf((await ada.says('Hi')).body), 'Turn #1: Hi')
  t.equal(calls[0]?.authorization, 'Bearer key of the provider')
})

t.test('a body that is no message is refused, and nothing is stored', async (t) => {
  const server = newServer()
  const { app, calls } = await start(t, new LeasingStorage(server, 10))
  for (const payload of [{}, { id: 'c' }, { id: 'c', messageId: 'm', user: 'ada' }, { id: 5, messageId: 'm', user: 'ada', text: 'Hi' }]) {
    t.equal((await app.inject({ method: 'POST', url: '/api/chat', payload })).statusCode, 400)
  }
  t.equal(server.documents.size, 0)
  t.equal(calls.length, 0)
})

t.test('useChat can talk to it by its transport', async (t) => {
  const { app } = await start(t)
  const transport = transportTo(`${await app.listen({ host: '127.0.0.1', port: 0 })}/api/chat`, 'ada')
  const ask = async (id: string, text: string): Promise<string> => {
    const stream = await transport.sendMessages({
      chatId: 'c',
      trigger: 'submit-message',
      messageId: undefined,
      messages: [{ id, role: 'user', parts: [{ type: 'text', text }] }],
      abortSignal: undefined
    })
    let answer = ''
    for await (const part of stream) if (part.type === 'text-delta') answer += part.delta
    return answer
  }
  t.equal(await ask('1', 'Hi'), 'Turn #1: Hi')
  t.equal(await ask('2', 'Hi again'), 'Turn #2: Hi again')
  t.equal(await ask('2', 'Hi again'), '', 'what was answered before is an empty stream, and no error')
})

function post (url: string, body: object): Promise<Response> {
  return fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
}
