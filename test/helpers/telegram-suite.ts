import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { MemoryStorage, type Storage } from 'fastify-botas-state'
import { type Said, type Talk, talk } from 'fastify-botas-state/testing'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { firstUpdate, startBotApi } from '../../example/bot-api.js'
import { startExample } from './bot-process.js'
import { settled } from './build-fastify.js'
import { shellEnvironment } from './node-process.js'
import { sdkSuite } from './sdk-suite.js'

/** What is special with an SDK. */
interface Sdk {
  /** its folder in `example` */
  name: string
  buildBot: (storage: Storage, env: NodeJS.ProcessEnv) => Promise<FastifyInstance>
  /** the status that it gives a stranger */
  refusal: number
  /** milliseconds that it gives a handler by default */
  handlerTimeout: number
}

const GROUP = -100
const ADA = 7
const SECRET = 'the-secret-token'

/** What every bot behind a webhook of Telegram's shows. */
export function telegramSuite (sdk: Sdk): void {
  const start = async (t: Test, storage: Storage = new MemoryStorage(), env: NodeJS.ProcessEnv = {}) => {
    const sent: string[] = []
    /** messages that Telegram refuses next */
    const refused: string[] = []
    const api = await startBotApi((text) => {
      if (refused[0] === text) throw new Error(`Telegram refuses ${refused.shift()}`)
      sent.push(text)
    })
    t.teardown(() => api.close())
    const app = await sdk.buildBot(storage, { ...api.env, ...env })
    t.teardown(() => app.close())
    return { app, ada: member(app, ADA), sent, refused }
  }

  sdkSuite(start)

  t.test('a stranger is refused, and nothing is loaded', async (t) => {
    const { app, sent } = await start(t, new MemoryStorage(), { TELEGRAM_SECRET: SECRET })
    for (const headers of [{}, { 'x-telegram-bot-api-secret-token': 'a-wrong-token' }]) {
      t.equal((await member(app, ADA, headers).says('Hi')).statusCode, sdk.refusal)
    }
    t.strictSame(sent, [])
    t.strictSame(await member(app, ADA).state(), { conversation: {}, user: {} })
    t.match(app.botasState.stats, { loads: 0, flushes: 0 })
  })

  t.test('Telegram is let in by its secret token', async (t) => {
    const { app, sent } = await start(t, new MemoryStorage(), { TELEGRAM_SECRET: SECRET })
    t.equal((await member(app, ADA, { 'x-telegram-bot-api-secret-token': SECRET }).says('Hi')).statusCode, 200)
    t.strictSame(sent, ['Turn #1: Hi'])
  })

  t.test('the members of a group share its conversation, and have a user state each', async (t) => {
    const { app, ada, sent } = await start(t)
    const bob = member(app, 8)
    await ada.says('Hi')
    await bob.says('Hello')
    t.strictSame(sent, ['Turn #1: Hi', 'Turn #2: Hello'])
    t.match(await ada.state(), { conversation: { turnCount: 2 }, user: { lastWords: 'Hi' } })
    t.match(await bob.state(), { user: { lastWords: 'Hello' } })
  })

  t.test('a handler that throws is a 500, so that Telegram delivers the update again', async (t) => {
    const { ada } = await start(t)
    t.equal((await ada.says('fail')).statusCode, 500)
    t.equal((await ada.redelivers()).statusCode, 500)
    t.equal(process.exitCode, undefined)
  })

  t.test('an update whose answer Telegram did not take counts when it is delivered again, once', async (t) => {
    const { ada, sent, refused } = await start(t)
    refused.push('Turn #1: Hi')
    t.equal((await ada.says('Hi')).statusCode, 500)
    t.strictSame(await ada.state(), { conversation: {}, user: {} })
    t.equal((await ada.redelivers()).statusCode, 200)
    t.equal((await ada.redelivers()).statusCode, 200)
    t.strictSame(sent, ['Turn #1: Hi'])
    t.match(await ada.state(), { conversation: { turnCount: 1 } })
  })

  t.test('an update that comes again while its handler is at work waits for it', async (t) => {
    const { ada, sent } = await start(t)
    const responses = await Promise.all([ada.says('slow'), ada.redelivers()])
    t.strictSame(responses.map(({ statusCode }) => statusCode), [200, 200])
    t.strictSame(sent, ['Turn #1: slow'])
  })

  t.test('a handler may take longer than the SDK would wait', async (t) => {
    hurry(t, sdk.handlerTimeout)
    const { ada, sent } = await start(t)
    t.equal((await ada.says('slow')).statusCode, 200)
    t.strictSame(sent, ['Turn #1: slow'])
  })

  t.test('an update without chat and user is no trouble', async (t) => {
    const { app } = await start(t)
    const poll = { id: '1', question: '?', options: [], total_voter_count: 0, is_closed: true, is_anonymous: true, type: 'regular' }
    t.equal((await app.inject({ method: 'POST', url: '/telegram', payload: { update_id: 1, poll } })).statusCode, 200)
  })

  t.test('a token that Telegram does not know fails the start', async (t) => {
    const api = Fastify({ forceCloseConnections: true })
    t.teardown(() => api.close())
    api.post('/*', async (_request, reply) => reply.code(401).send({ ok: false, error_code: 401, description: 'Unauthorized' }))
    const url = await api.listen({ host: '127.0.0.1', port: 0 })
    await t.rejects(sdk.buildBot(new MemoryStorage(), { BOT_TOKEN: '42:unknown', TELEGRAM_API_ROOT: url }), /Unauthorized/)
  })

  t.test('an answer that Telegram refuses is logged without the token, and without what was said', async (t) => {
    const api = await startBotApi(() => { throw new Error('refused') })
    t.teardown(() => api.close())
    const bot = await startExample(t, `${sdk.name}/main.ts`, t.testdir(), { ...api.env, STATE_STORAGE: 'memory:' })
    const update = { ...firstUpdate, message: { ...firstUpdate.message, text: 'my private words' } }
    const { status } = await fetch(bot.url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(update) })
    t.equal(status, 500)
    await settled(() => bot.output().includes('"level":50'))
    t.equal(await bot.stop(), 0)
    t.notMatch(bot.output(), /secret-token|private words/)
  })

  t.test('as its users start it: it says what it answers, logs an error once, without the token, and ends with 0', async (t) => {
    const cwd = fileURLToPath(new URL('../../example', import.meta.url))
    const bot = spawn(process.execPath, ['--import=tsx', `${sdk.name}/main.ts`], {
      cwd, env: { ...shellEnvironment, PORT: '0', HOST: '127.0.0.1', STATE_STORAGE: 'memory:' }, stdio: ['ignore', 'pipe', 'pipe']
    })
    t.teardown(() => bot.kill('SIGKILL'))
    const exited = once(bot, 'exit')
    let errors = ''
    bot.stderr.on('data', (chunk) => { errors += chunk })
    const output: string[] = []
    for await (const line of createInterface(bot.stdout)) {
      output.push(line)
      const url = /curl +(\S+)/.exec(line)?.[1]
      if (url === undefined) continue
      for (const [index, text] of ['Hi', 'fail', 'Hi again'].entries()) {
        const update = { ...firstUpdate, update_id: index, message: { ...firstUpdate.message, text } }
        await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(update) })
      }
      bot.kill('SIGTERM')
    }
    t.strictSame(await exited, [0, null])
    t.equal(errors, '')
    t.strictSame(output.filter((line) => line.startsWith('The bot says')), ['The bot says: Turn #1: Hi', 'The bot says: Turn #2: Hi again'])
    const log = output.filter((line) => line.startsWith('{'))
    t.equal(log.length, 1)
    t.match(log[0], /as it was asked to/)
    t.notMatch(log[0], /secret-token/)
  })
}

/** Somebody in the group. */
function member (app: FastifyInstance, user: number, headers: Record<string, string> = {}): Talk {
  const identity = { channelId: 'telegram', botId: '42', conversationId: String(GROUP), userId: String(user) }
  return talk(app, identity, { url: '/telegram', headers, payload: (said) => updateOf(said, user) })
}

const updateIds = new Map<string, number>()

/** The same update for the same message, as Telegram delivers it. */
function updateOf ({ id, text }: Said, user: number): object {
  const updateId = updateIds.get(id) ?? updateIds.size + 1
  updateIds.set(id, updateId)
  const { message } = firstUpdate
  return { update_id: updateId, message: { ...message, message_id: updateId, chat: { ...message.chat, id: GROUP }, from: { ...message.from, id: user }, text } }
}

/** Timers of so many milliseconds run out after some ten. */
function hurry (t: Test, milliseconds: number): void {
  const { setTimeout } = globalThis
  t.teardown(() => { globalThis.setTimeout = setTimeout })
  globalThis.setTimeout = Object.assign((callback: () => void, delay?: number) => setTimeout(callback, delay === milliseconds ? 50 : delay), setTimeout)
}
