import { once } from 'node:events'
import http from 'node:http'
import t, { type Test } from 'tap'
import { MemoryStorage, type Storage, encrypted } from '../../lib/index.js'
import { CONVERSATION_KEY, USER_KEY, message } from '../helpers/activities.js'
import { post, settled } from '../helpers/build-fastify.js'
import { type InspectedBot, inspectedBot } from '../helpers/inspected-bot.js'
import { memoryInUse } from '../helpers/memory.js'
import { LeasingStorage, newServer } from '../helpers/leasing-storage.js'
import { RecordingStorage } from '../helpers/recording-storage.js'
import { slowStorage } from '../helpers/slow-storage.js'

interface Details {
  turn: { outcome: string, code?: string, retries: number, isOverlapped: boolean, via: string, keys: string[], phases: Array<{ name: string, from: number }>, to: number, changeCount: number }
  message?: string
  documents: Array<{ key: string, changes: Array<{ path: unknown[], before?: { text: string, length: number }, after?: { text: string, length: number } }>, leftOut: number }>
}

/** What is noted of a turn when it is over. */
async function noted ({ app }: InspectedBot, id: number): Promise<Details> {
  const ask = async () => (await app.inject(`/inspector/turns/${id}`)).json()
  await settled(async () => (await ask()).turn?.to !== undefined)
  return ask()
}

const changesIn = ({ documents }: Details) => documents.map(({ key, changes }) => [key, changes.map(({ path, before, after }) => [path.join('.'), before?.text, after?.text])])

t.test('what a turn did is noted: phases, outcome, and changes of both documents as they were stored', async (t) => {
  const bot = await inspectedBot(t)
  for (const text of ['one', 'two']) await bot.say(text)
  const { turn, ...second } = await noted(bot, 2)
  t.match(turn, { outcome: 'saved', via: 'request', retries: 0, keys: [CONVERSATION_KEY, USER_KEY], changeCount: 3 })
  t.strictSame(turn.phases.map(({ name }) => name), ['loading', 'handler', 'saving'])
  const times = [...turn.phases.map(({ from }) => from), turn.to]
  t.strictSame(times, [...times].sort((one, other) => one - other))
  t.ok(Math.abs(turn.to - Date.now()) < 5000)
  t.strictSame(changesIn({ turn, ...second }), [
    [CONVERSATION_KEY, [['turn_count', '1', '2'], ['said.1', undefined, '"two"']]],
    [USER_KEY, [['user_message_count', '1', '2']]]
  ])
})

t.test('turns that change one value at once are each told by what was stored before them', async (t) => {
  const bot = await inspectedBot(t, { storage: slowStorage(20) })
  await Promise.all(Array.from({ length: 5 }, () => bot.say('at once')))
  const counts = await Promise.all([1, 2, 3, 4, 5].map(async (id) => changesIn(await noted(bot, id))[1]?.[1]))
  t.strictSame(counts.map((changes) => JSON.stringify(changes)).sort(), [1, 2, 3, 4, 5].map((count) =>
    JSON.stringify([['user_message_count', count === 1 ? undefined : String(count - 1), String(count)]])).sort())
})

t.test('a turn without ids is not shown, and one that changed nothing is shown as that', async (t) => {
  const bot = await inspectedBot(t, { routes: (app) => app.post('/read', async ({ state }) => ({ n: state.user.isAvailable && state.user.get('user_message_count') })) })
  t.equal((await post(`${bot.url}/read`, { channelId: 'test', recipient: { id: 'bot' } })).status, 200)
  t.equal((await bot.app.inject('/inspector/turns/1')).statusCode, 404)
  await post(`${bot.url}/read`, message())
  t.match(await noted(bot, 2), { turn: { outcome: 'unchanged' }, documents: [] })
})

t.test('whatever is thrown, the turn fails as it does by itself, and what can be told of it is', async (t) => {
  const hostile = { get code () { throw new Error('no') } }
  const thrown: Array<[unknown, string | undefined, string | undefined]> = [
    [new TypeError('it is no function'), 'TypeError', 'it is no function'], [new Error('no', { cause: new Error('why') }), undefined, 'no: why'], ['a text', undefined, 'a text'], [undefined, undefined, undefined], [null, undefined, undefined],
    [hostile, undefined, undefined], [{ code: 7, name: '', message: 7 }, undefined, undefined], [Object.assign(new Error('x'.repeat(5000)), { code: 'c'.repeat(5000) }), `${'c'.repeat(200)}…`, 'x'.repeat(1000)],
    [new Proxy({}, { get () { throw new Error('no') } }), undefined, undefined]
  ]
  const bot = await inspectedBot(t)
  const timeout = new DOMException('it took too long', 'TimeoutError')
  thrown.push([timeout, 'TimeoutError', 'it took too long'])
  let reads = 0
  thrown.push([Object.defineProperty(new Error('counted'), 'message', { get: () => `${++reads}` }), undefined, undefined])
  for (const [index, [error, code, text]] of thrown.entries()) {
    const isSame = await bot.app.botasState.run({ channelId: 'test', botId: 'bot', userId: 'u' }, () => { throw error }).then(() => false, (caught) => caught === error)
    t.ok(isSame)
    const { turn, message } = await noted(bot, index + 1)
    t.match(turn, { outcome: 'failed', via: 'run' })
    t.equal(turn.code, code)
    t.equal(message, text)
  }
  t.equal(reads, 0, 'no getter is called')
})

t.test('a reply of an error makes a failed turn, and so does a storage that fails or is too slow', async (t) => {
  const storage = new RecordingStorage()
  const bot = await inspectedBot(t, { storage, loadTimeout: 50, routes: (app) => app.post('/busy', async (_request, reply) => reply.code(503).send({})) })
  await post(`${bot.url}/busy`, message())
  t.match(await noted(bot, 1), { turn: { outcome: 'failed', code: undefined } })
  storage.failures.update = new Error('no')
  await bot.say('hi')
  t.match(await noted(bot, 2), { turn: { outcome: 'failed', code: 'FST_BOTAS_STATE_SAVE_FAILED', saved: [] } })
  storage.latency.read = 200
  await bot.say('hi')
  const late = await noted(bot, 3)
  t.match(late.turn, { outcome: 'failed', code: 'FST_BOTAS_STATE_LOAD_FAILED' })
  t.strictSame(late.turn.phases.map(({ name }) => name), ['loading'])
})

t.test('a turn that waited and was refused, and one that lost its place, are told as that', async (t) => {
  const bot = await inspectedBot(t, { storage: slowStorage(), concurrency: { strategy: 'queue', maxWait: 50 } })
  const [, status] = await Promise.all([bot.say('slow'), settled(() => bot.app.botasState.stats.openTurns === 1).then(() => bot.say('late'))])
  t.equal(status, 503)
  const refused = await noted(bot, 2)
  t.match(refused.turn, { outcome: 'failed', code: 'FST_BOTAS_STATE_BUSY' })
  t.strictSame(refused.turn.phases.map(({ name }) => name), ['waiting'])

  const storage = new LeasingStorage()
  const leasing = await inspectedBot(t, { storage, concurrency: { strategy: 'queue', lease: 1000 } })
  let isLost = false
  const lease = storage.lease.bind(storage)
  storage.lease = async (...call) => isLost ? 'somebody else' : lease(...call)
  const saying = leasing.app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: 'c' }, async (state) => {
    isLost = true
    await settled(() => leasing.app.botasState.stats.leasesLost === 1)
    isLost = false
    state.conversation.set('n', 1)
  })
  await saying
  t.match((await noted(leasing, 1)).turn, { isOverlapped: true, outcome: 'saved' })
})

t.test('a turn that asks again and again whether its place is free has one wait', async (t) => {
  const server = newServer()
  const [holder, bot] = [await inspectedBot(t, { storage: new LeasingStorage(server), concurrency: 'queue' }), await inspectedBot(t, { storage: new LeasingStorage(server), concurrency: 'queue' })]
  const first = holder.say('slow')
  await settled(() => holder.app.botasState.stats.openTurns === 1)
  await Promise.all([first, bot.say('second')])
  const { turn } = await noted(bot, 1)
  t.strictSame(turn.phases.map(({ name }) => name).slice(-4), ['waiting', 'loading', 'handler', 'saving'])
  t.equal(turn.phases.filter(({ name }) => name === 'waiting').length, 1)
})

t.test('a turn that stores what somebody else has stored meanwhile has changed nothing', async (t) => {
  const storage = new RecordingStorage()
  const bot = await inspectedBot(t, { storage })
  await bot.app.botasState.run({ channelId: 'test', botId: 'bot', userId: 'user-1' }, async ({ user }) => {
    user.set('n', 2)
    await storage.store(USER_KEY, { n: 2 })
  })
  t.match(await noted(bot, 1), { turn: { outcome: 'saved', changeCount: 0 }, documents: [] })
})

t.test('a save that was tried again is counted', async (t) => {
  const storage = new RecordingStorage()
  const bot = await inspectedBot(t, { storage })
  const update = storage.update.bind(storage)
  storage.update = async (key, change, _loaded?: unknown, call?: { retrying (): void }) => {
    call?.retrying()
    return update(key, change)
  }
  await bot.say('hi')
  t.match((await noted(bot, 1)).turn, { retries: 2, outcome: 'saved' })
})

t.test('a corrupt document is told as a failed turn, and what clears it as what it becomes', async (t) => {
  const storage = new RecordingStorage()
  const bot = await inspectedBot(t, { storage })
  const unreadable = async (keys: string[]) => Object.fromEntries(keys.filter((key) => key === USER_KEY).map((key) => [key, 'corrupt']))
  storage.read = unreadable as never
  await bot.say('hi')
  t.match((await noted(bot, 1)).turn, { outcome: 'failed', code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT' })
  t.equal((await bot.app.inject({ url: '/inspector/document', query: { key: USER_KEY } })).statusCode, 500)
  await bot.app.botasState.run({ channelId: 'test', botId: 'bot', userId: 'user-1' }, ({ user }) => {
    user.clear()
    user.set('fresh', true)
  })
  t.strictSame(changesIn(await noted(bot, 2)), [[USER_KEY, [['fresh', undefined, 'true']]]])
})

t.test('a failed turn shows what it would have changed, and its updates run no more often for that', async (t) => {
  const storage = new MemoryStorage()
  await storage.write({ [USER_KEY]: { count: 'five', schemaVersion: 1 } })
  const bot = await inspectedBot(t, { storage, documents: { user: { version: { key: 'schemaVersion', upgrades: { 2: (document) => ({ ...document, count: 5 }) } } } } })
  const counts: number[] = []
  await t.rejects(bot.app.botasState.run({ channelId: 'test', botId: 'bot', userId: 'user-1' }, ({ user }) => {
    user.update<number>('count', (count = 0) => {
      counts.push(count)
      return count + 1
    })
    throw new Error('no')
  }))
  t.strictSame(changesIn(await noted(bot, 1)), [[USER_KEY, [['count', '5', '6']]]])
  t.strictSame(counts, [5])
  await t.rejects(bot.app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: 'c', userId: 'user-1' }, ({ conversation, user }) => {
    conversation.set('kept', 1)
    user.set('list', [1])
    user.get<unknown[]>('list')?.push(1n)
  }), { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE' })
  t.strictSame(changesIn(await noted(bot, 2)), [['test/bot/conversations/c', [['kept', undefined, '1']]]])
})

t.test('values of an encrypted storage are shown in clear', async (t) => {
  const bot = await inspectedBot(t, { storage: encrypted(new MemoryStorage({ ttl: 60 }), { keys: { current: 'k', k: 'a'.repeat(64) } }) })
  await bot.say('secret')
  t.match(changesIn(await noted(bot, 1))[0]?.[1], [['turn_count', undefined, '1'], ['said', undefined, '["secret"]']])
  const shown = (await bot.app.inject({ url: '/inspector/document', query: { key: CONVERSATION_KEY } })).json()
  t.match(shown.members, [{ name: 'turn_count', text: '1' }, { name: 'said', text: '["secret"]' }])
  t.ok(shown.timeLeft <= 60_000)
})

t.test('what a turn changed is remembered up to a limit, and a document is shown up to another', async (t) => {
  const bot = await inspectedBot(t, {
    storage: new RecordingStorage(),
    routes: (app) => app.post('/much', async ({ state }) => {
      for (let index = 0; index < 300; index++) state.user.set(`m${index}`, 'x'.repeat(5000))
      for (let index = 0; index < 11_000; index++) state.conversation.set(`n${index}`, index)
      return {}
    })
  })
  await post(`${bot.url}/much`, message())
  const { documents, turn } = await noted(bot, 1)
  t.equal(turn.changeCount, 11_300)
  t.strictSame(documents.map(({ changes, leftOut }) => changes.length + leftOut), [11_000, 300])
  t.ok(documents.every(({ changes }) => changes.length <= 200))
  const texts = documents.flatMap(({ changes }) => changes.map(({ after }) => after?.text.length as number))
  t.ok(texts.reduce((sum, length) => sum + length) <= 50_000)
  t.equal(documents[1]?.changes.at(-1)?.after?.length, 5002)
  const shown = async (key: string) => (await bot.app.inject({ url: '/inspector/document', query: { key } })).json()
  const user = await shown(USER_KEY)
  t.equal(user.leftOut, 100)
  t.equal(user.timeLeft, undefined, 'a storage of somebody else does not tell')
  t.ok(user.members.reduce((sum: number, { text }: { text: string }) => sum + text.length, 0) <= 1_000_000)
  t.match(await shown(CONVERSATION_KEY), { leftOut: 1000, members: { length: 10_000 } })
})

t.test('a storage that changes its own object shows what was there before', async (t) => {
  const documents: Record<string, Record<string, unknown>> = {}
  const storage: Storage = {
    read: async (keys) => structuredClone(Object.fromEntries(keys.filter((key) => key in documents).map((key) => [key, documents[key]]))),
    write: async (changes) => { Object.assign(documents, changes) },
    delete: async (keys) => { for (const key of keys) delete documents[key] },
    update: async (key, change) => {
      const document = documents[key] ??= {}
      Object.assign(document, change(document))
    }
  }
  const bot = await inspectedBot(t, { storage })
  for (const text of ['one', 'two']) await bot.say(text)
  t.strictSame(changesIn(await noted(bot, 2))[1], [USER_KEY, [['user_message_count', '1', '2']]])
})

t.test('what is kept of a turn does not keep what it was taken from', async (t) => {
  const bot = await inspectedBot(t, { storage: new MemoryStorage() })
  const before = memoryInUse()
  for (let turn = 0; turn < 200; turn++) {
    const body = Buffer.alloc(1_000_000, `${turn} `).toString('latin1')
    await bot.app.botasState.run({ channelId: 'test', botId: 'bot', userId: 'u', activityId: body.slice(0, 40) }, () => { throw new Error(body.slice(10, 110)) }).catch(() => {})
  }
  // Kept with their bodies they are 200 MB.
  const more = memoryInUse() - before
  t.ok(more < 50_000_000, `${more} bytes more`)
})

t.test('an empty document is told from none', async (t) => {
  const storage = new RecordingStorage()
  const bot = await inspectedBot(t, { storage })
  await bot.say('hi')
  await noted(bot, 1)
  await storage.store(USER_KEY, {})
  const read = storage.read.bind(storage)
  storage.read = async (keys, call?: { retrying (): void }) => {
    call?.retrying()
    return read(keys)
  }
  const { flushRetries, loadRetries } = bot.app.botasState.stats
  t.strictSame((await bot.app.inject({ url: '/inspector/document', query: { key: USER_KEY } })).json(), { key: USER_KEY, members: [], leftOut: 0, size: 2 })
  t.match(bot.app.botasState.stats, { flushRetries, loadRetries }, 'who looks is not counted')
})

t.test('a page that gets no news is written to all the same, every five seconds', async (t: Test) => {
  const { url } = await inspectedBot(t)
  const request = http.get(`${url}/inspector/events`)
  const [response] = await once(request, 'response') as [http.IncomingMessage]
  let text = ''
  response.on('data', (chunk) => { text += chunk })
  response.on('error', () => {})
  await settled(() => text.endsWith('\n\n:\n\n'), 8000)
})
