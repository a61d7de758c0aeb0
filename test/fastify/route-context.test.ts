import { cp, readFile, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import Fastify, { type FastifyReply, type FastifyRequest, type fastify as build } from 'fastify'
import t from 'tap'
import botasState from '../../lib/index.js'
import { CONVERSATION_KEY, message } from '../helpers/activities.js'
import { buildFastify, listen, post } from '../helpers/build-fastify.js'
import { protocols } from '../helpers/client.js'
import { gate } from '../helpers/raw-client.js'
import { RecordingStorage } from '../helpers/recording-storage.js'
import { slowStorage } from '../helpers/slow-storage.js'

t.test('a route that was declared before the plugin was loaded has state too', async (t) => {
  const storage = new RecordingStorage()
  const lines: string[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { lines.push(line) } } } })
  t.teardown(() => app.close())
  app.register(botasState, { storage, flush: 'onSend' })
  app.post('/', async ({ state }) => ({ n: state.conversation.update<number>('n', (n) => (n ?? 0) + 1) }))
  app.get('/health', async () => ({}))
  const { url } = await listen(app)
  t.strictSame((await post(url, message())).body, { n: 1 })
  t.strictSame((await post(url, message())).body, { n: 2 })
  await fetch(`${url}/health`)
  t.strictSame(await storage.stored(CONVERSATION_KEY), { n: 2 })
  t.strictSame(lines, [], 'there is nothing to warn of')
})

t.test('a handler keeps its name, by which tracing shows it', async (t) => {
  const { url } = await buildFastify(t, {}, (app) => {
    app.post('/', async function greet (request) { return { name: request.routeOptions.handler?.name ?? (request as never) } })
  })
  const bare = Fastify({ forceCloseConnections: true })
  t.teardown(() => bare.close())
  bare.post('/', async function greet (request) { return { name: (request.routeOptions as { handler?: { name: string } }).handler?.name } })
  const { url: bareUrl } = await listen(bare)
  t.strictSame((await post(url, message())).body, (await post(bareUrl, message())).body)
  t.equal((await post(url, message())).body.name, 'bound greet')
})

for (const symbol of ['fastify.context', 'fastify.Reply']) {
  t.test(`a Fastify that hides ${symbol} is warned of, and what is declared after the plugin holds all the same`, async (t) => {
    const require = createRequire(import.meta.url)
    const directory = join(t.testdir(), 'fastify')
    await cp(dirname(require.resolve('fastify/package.json')), directory, { recursive: true })
    const symbols = join(directory, 'lib/symbols.js')
    await writeFile(symbols, (await readFile(symbols, 'utf8')).replace(`Symbol('${symbol}')`, "Symbol('hidden')"))
    const Fastify = require(directory) as typeof build

    const lines: string[] = []
    const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { lines.push(line) } } } })
    t.teardown(() => app.close())
    const storage = slowStorage()
    await app.register(botasState, { storage, flush: 'onSend' })
    t.match(lines.map((line) => JSON.parse(line).msg), [/hides its routes.*await the registration/])
    app.post<{ Body: { text: string } }>('/', async ({ body, state }, reply) => {
      state.conversation.set('said', body.text)
      reply.send({ fine: true })
      await wait(5)
      if (body.text === 'throw') throw new Error('no')
    })
    const say = (text: string) => app.inject({ method: 'POST', url: '/', payload: message({ text }) })
    t.match(await say('fine'), { statusCode: 200, body: '{"fine":true}' })
    t.equal((await say('throw')).statusCode, 500)
    t.strictSame(await storage.stored(CONVERSATION_KEY), { said: 'fine' })
  })
}

t.test('routes of the same tick as a registration that nobody awaits', async (t) => {
  const endings: Record<string, [handler: (request: FastifyRequest, reply: FastifyReply, reached: () => void) => unknown, leaves: boolean, saved: boolean]> = {
    'do not save what a handler throws after it took over the reply': [async (_request, reply) => {
      reply.hijack()
      setTimeout(() => reply.raw.end('{}'), 10)
      throw new Error('no')
    }, false, false],
    'save what a handler changes after it took over the reply': [async ({ state }, reply) => {
      state.conversation.delete('kept')
      reply.hijack()
      reply.raw.end('{}')
      await wait(10)
      state.conversation.set('kept', true)
    }, false, true],
    'save what a handler changes after its client left': [async ({ state }, _reply, reached) => {
      state.conversation.delete('kept')
      reached()
      await wait(30)
      state.conversation.set('kept', true)
    }, true, true]
  }
  for (const [title, [handler, leaves, saved]] of Object.entries(endings)) {
    t.test(title, async (t) => {
      const storage = slowStorage()
      const reached = gate()
      const app = Fastify({ forceCloseConnections: true })
      t.teardown(() => app.close())
      app.register(botasState, { storage, flush: 'onSend' })
      app.addHook('preHandler', async ({ state }) => { state.conversation.set('kept', true) })
      app.post('/', (request, reply) => handler(request, reply, reached.open))
      const { port } = await listen(app)
      const client = await protocols['HTTP/1.1'].connect(t, port)
      if (leaves) {
        client.begin(message())
        await reached.opened
        client.leave()
        await wait(50)
      } else {
        await client.say(message())
      }
      await app.close()
      t.strictSame(await storage.stored(CONVERSATION_KEY), saved ? { kept: true } : undefined)
    })
  }
})
