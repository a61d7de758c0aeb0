import Fastify from 'fastify'
import t, { type Test } from 'tap'
import botasState, { FileStorage, MemoryStorage, type Storage, type TurnState } from '../../lib/index.js'
import { RedisStorage } from '../../lib/storage/redis/redis-storage.js'
import { message } from '../helpers/activities.js'
import { startRedis } from '../helpers/redis-server.js'

const HISTORY = Array.from({ length: 50 }, (_, n) => ({ role: 'user', text: `${n} `.padEnd(1000, 'said ') }))
/** A text that long is a history, or has one in it. */
const LONG = 10_000

const append = (history: unknown[] = []): unknown[] => [...history, HISTORY[0]].slice(-50)

/** What a turn does with a stored history, and how often that may pass through JSON. */
const works: Record<string, [work: (state: TurnState) => void, parses: number, stringifies: number]> = {
  'one message appended': [({ conversation }) => { conversation.update('messages', append) }, 1, 1],
  'one message appended to what was read before': [({ conversation }) => {
    conversation.get<unknown[]>('messages')
    conversation.update('messages', append)
  }, 1, 1],
  'two messages appended': [({ conversation }) => {
    conversation.update('messages', append)
    conversation.update('messages', append)
  }, 1, 1],
  'one message pushed in place': [({ conversation }) => { conversation.get<unknown[]>('messages')?.push(HISTORY[0]) }, 1, 1],
  'replaced by what was read': [({ conversation }) => { conversation.set('messages', append(conversation.get('messages'))) }, 1, 1],
  'replaced by an equal one': [({ conversation }) => { conversation.set('messages', structuredClone(conversation.get('messages'))) }, 1, 0],
  'only read': [({ conversation }) => { conversation.get('messages') }, 1, 0],
  'not touched beside a counter that changes': [({ conversation }) => { conversation.update('turns', (n: number = 0) => n + 1) }, 0, 0],
  'one message appended beside long members that nobody touches': [({ conversation }) => { conversation.update('others', append) }, 1, 1],
  'not touched by a turn that changes the user': [({ user }) => { user.set('name', 'Ada') }, 0, 0],
  deleted: [({ conversation }) => { conversation.clear() }, 0, 0]
}

const storages: Record<string, (t: Test) => Storage | Promise<Storage>> = {
  MemoryStorage: () => new MemoryStorage(),
  FileStorage: (t) => new FileStorage(t.testdir()),
  RedisStorage: async (t) => new RedisStorage((await startRedis(t)).url)
}

/** Counts what passes through JSON while something is done, if it is long enough. */
async function passes (work: () => Promise<unknown>, length = LONG): Promise<{ parses: number, stringifies: number }> {
  const { parse, stringify } = JSON
  const counts = { parses: 0, stringifies: 0 }
  JSON.parse = (...args) => {
    if (args[0].length > length) counts.parses++
    return parse(...args)
  }
  JSON.stringify = ((...args: Parameters<typeof stringify>) => {
    const text = stringify(...args)
    if (text?.length > length) counts.stringifies++
    return text
  }) as typeof stringify
  try {
    await work()
  } finally {
    Object.assign(JSON, { parse, stringify })
  }
  return counts
}

for (const [name, open] of Object.entries(storages)) {
  t.test(`a history passes through JSON as often as by hand: ${name}`, async (t) => {
    const storage = await open(t)
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(botasState, { storage, flush: 'onSend' })
    app.post<{ Body: { text: string } }>('/', async ({ body, state }) => {
      works[body.text]?.[0](state)
      return {}
    })
    // The first request compiles what Fastify needs, which is long, too.
    await app.inject({ method: 'POST', url: '/', payload: message({ text: 'nothing' }) })
    for (const [text, [, parses, stringifies]] of Object.entries(works)) {
      await storage.write({ 'test/bot/conversations/conversation-1': { turns: 1, messages: HISTORY, others: HISTORY } })
      const found = await passes(async () => {
        t.equal((await app.inject({ method: 'POST', url: '/', payload: message({ text }) })).statusCode, 200)
      })
      t.strictSame(found, { parses, stringifies }, text)
    }
  })
}

t.test('a counter passes through JSON once on its way in, a turn that only reads does too, and what is no turn does not', async (t) => {
  for (const [name, open] of Object.entries(storages)) {
    t.test(name, async (t) => {
      const storage = await open(t)
      const app = Fastify()
      t.teardown(() => app.close())
      await app.register(botasState, { storage, flush: 'onSend' })
      // A text is sent as it is, and a text body is not parsed: what passes through JSON is state.
      app.addContentTypeParser('text/plain', { parseAs: 'string' }, (_request, _body, done) => done(null, {}))
      const ids = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1' }
      const counted = (work: (state: TurnState) => void) => passes(() => app.botasState.run(ids, work), 0)
      app.post('/', async () => 'nothing')
      const noTurn = () => app.inject({ method: 'POST', url: '/', payload: 'text', headers: { 'content-type': 'text/plain' } })
      await noTurn()
      await storage.write({ 'test/bot/conversations/conversation-1': { turns: 1 } })
      // The name of the member is written as JSON, its number is not, where the document leaves the process.
      const stringifies = name === 'MemoryStorage' ? 0 : 1
      t.strictSame(await counted(({ conversation }) => { conversation.update('turns', (n: number = 0) => n + 1) }), { parses: 1, stringifies })
      t.strictSame(await counted(({ conversation }) => { conversation.get('turns') }), { parses: 1, stringifies: 0 })
      t.strictSame(await counted(() => {}), { parses: 0, stringifies: 0 })
      t.strictSame(await passes(noTurn, 0), { parses: 0, stringifies: 0 })
    })
  }
})
