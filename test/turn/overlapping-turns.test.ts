import { setTimeout as wait } from 'node:timers/promises'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { type StateScope, type Storage, FileStorage, MemoryStorage } from '../../lib/index.js'
import { RedisStorage } from '../../lib/storage/redis/redis-storage.js'
import { CONVERSATION_KEY, USER_KEY, message } from '../helpers/activities.js'
import { buildFastify, post, settled } from '../helpers/build-fastify.js'
import { drivenStorages } from '../helpers/overlap-storages.js'
import { RecordingStorage } from '../helpers/recording-storage.js'
import { startRedis } from '../helpers/redis-server.js'

const redis = await startRedis(t)

const storages: Record<string, (t: Test) => Storage | Promise<Storage>> = {
  memory: () => new MemoryStorage(),
  file: (t) => new FileStorage(t.testdir()),
  Redis: async (t) => {
    const storage = new RedisStorage(redis.url, { keyPrefix: `${t.fullname}:` })
    t.teardown(() => storage.close())
    return storage
  },
  ...Object.fromEntries(Object.entries(drivenStorages).map(([name, prepare]) => [name, async (t: Test) => (await prepare(t))()]))
}

const TURNS = 50

for (const [name, open] of Object.entries(storages)) {
  t.test(`of ${TURNS} overlapping turns none undoes another: ${name}`, async (t) => {
    const storage = await open(t)
    await storage.write({ [CONVERSATION_KEY]: { untouched: 1, gone: 1, n: 100 } })
    // Every turn has been loaded before any is flushed.
    let loaded = 0
    const { url } = await buildFastify(t, { storage, flush: 'onSend' }, (app) => {
      app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation, user } }) => {
        loaded++
        await settled(() => loaded === TURNS)
        conversation.set(`key-${text}`, text)
        conversation.update<number>('n', (n = 0) => n + 1)
        conversation.update<string[]>('history', (history = []) => [...history, text])
        conversation.delete('gone')
        user.update<number>('n', (n = 0) => n + 1)
        return {}
      })
    })
    const texts = Array.from({ length: TURNS }, (_, index) => String(index))
    const replies = await Promise.all(texts.map((text) => post(url, message({ text }))))
    t.ok(replies.every(({ status }) => status === 200))

    const documents = await storage.read([CONVERSATION_KEY, USER_KEY]) as Record<string, Record<string, unknown>>
    const { history, n, untouched, ...keys } = documents[CONVERSATION_KEY] as Record<string, unknown>
    t.equal(n, 100 + TURNS)
    t.equal(untouched, 1)
    t.strictSame((history as string[]).toSorted((a, b) => Number(a) - Number(b)), texts)
    t.strictSame(keys, Object.fromEntries(texts.map((text) => [`key-${text}`, text])))
    t.strictSame(documents[USER_KEY], { n: TURNS })
  })
}

/** Two turns that were both loaded before one of them ends first, the other one second. */
async function twoTurns (t: Test, first: string, second: string, stored: Record<string, unknown>) {
  const storage = new MemoryStorage()
  await storage.write({ [CONVERSATION_KEY]: stored })
  let loaded = 0
  const { url } = await buildFastify(t, { storage, flush: 'onSend' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state }) => {
      const { conversation } = state
      loaded++
      await settled(() => loaded === 2)
      if (text === second) await wait(20)
      switch (text) {
        case 'set 1': conversation.set('n', 1); break
        case 'set 2': conversation.set('n', 2); break
        case 'delete': conversation.delete('n'); break
        case 'clear': conversation.clear(); break
        case 'delete state, set': state.deleteConversationState(); conversation.set('m', 1); break
        case 'increment': conversation.update<number>('n', (n = 0) => n + 1); break
        case 'increment twice': conversation.update<number>('n', (n = 0) => n + 1); conversation.update<number>('n', (n = 0) => n + 1); break
        case 'set 5, increment': conversation.set('n', 5); conversation.update<number>('n', (n = 0) => n + 1); break
        case 'remove if positive': conversation.update<number | undefined>('n', (n = 0) => n > 0 ? undefined : n); break
        case 'push in place': conversation.get<number[]>('list')?.push(1); break
        case 'push, update': conversation.get<number[]>('list')?.push(1); conversation.update<number[]>('list', (list = []) => [...list, 2]); break
        case 'update, push': conversation.update<number[]>('list', (list = []) => [...list, 3]); conversation.get<number[]>('list')?.push(4); break
        case 'append': conversation.update<number[]>('list', (list = []) => [...list, 5])
      }
      return {}
    })
  })
  await Promise.all([first, second].map((text) => post(url, message({ text }))))
  return (await storage.read([CONVERSATION_KEY]))[CONVERSATION_KEY]
}

const races: Array<[title: string, first: string, second: string, stored: object, expected: object | undefined]> = [
  ['of two sets of one key the last flush wins', 'set 1', 'set 2', { n: 0, m: 0 }, { n: 2, m: 0 }],
  ['a delete after a set wins', 'set 1', 'delete', { n: 0, m: 0 }, { m: 0 }],
  ['a set after a delete wins', 'delete', 'set 1', { n: 0, m: 0 }, { m: 0, n: 1 }],
  ['an update is applied to what another turn set', 'set 2', 'increment', { n: 0 }, { n: 3 }],
  ['an update is applied to what another turn updated', 'increment', 'increment twice', { n: 0 }, { n: 3 }],
  ['an update finds nothing after a delete', 'delete', 'increment', { n: 5 }, { n: 1 }],
  ['an update may delete when it is applied again', 'set 1', 'remove if positive', { n: 0.5, m: 0 }, { m: 0 }],
  ['an update after a set of its own turn is that value', 'increment', 'set 5, increment', { n: 0 }, { n: 6 }],
  ['clear empties what another turn has added', 'set 1', 'clear', { m: 0 }, undefined],
  ['a change survives a clear before it', 'clear', 'increment', { n: 5, m: 0 }, { n: 1 }],
  ['what a turn sets after it deleted the state is all that stays', 'set 1', 'delete state, set', { n: 0 }, { m: 1 }],
  ['an object changed in place wins for its key', 'append', 'push in place', { list: [0], m: 0 }, { list: [0, 1], m: 0 }],
  ['an update of an object that was changed in place is no update any more', 'append', 'push, update', { list: [0] }, { list: [0, 1, 2] }],
  ['an object that was changed in place after its update wins for its key', 'append', 'update, push', { list: [0] }, { list: [0, 3, 4] }],
  ['an update of a list is applied again', 'push in place', 'append', { list: [0] }, { list: [0, 1, 5] }]
]

for (const [title, first, second, stored, expected] of races) {
  t.test(title, async (t) => {
    t.strictSame(await twoTurns(t, first, second, stored as Record<string, unknown>), expected)
  })
}

const unsaved: Array<[Storage, RegExp]> = [
  // All documents of a turn, or none.
  [new MemoryStorage(), /saved: none; not known to be saved: "test\/bot\/conv.*", "test\/bot\/users.*"n" in the conversation state.*a BigInt/],
  [new RecordingStorage(), /saved: "test\/bot\/users\/user-1"; not known to be saved: "test\/bot\/conv.*"n" in the conversation state.*a BigInt/]
]
for (const [storage, outcome] of unsaved) {
  t.test(`an update whose second application cannot be stored fails the save and names the key: ${storage.constructor.name}`, async (t) => {
    if (storage instanceof RecordingStorage) storage.latency.update = 20
    const { app, url, log } = await buildFastify(t, { storage }, (app) => {
      app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation, user } }) => {
        await wait(text === 'set' ? 20 : 40)
        if (text === 'set') conversation.set('n', 1)
        else conversation.update<unknown>('n', (n) => n === undefined ? 0 : 1n)
        user.set(text, true)
        return {}
      })
    })
    await Promise.all(['set', 'update'].map((text) => post(url, message({ text }))))
    await app.close()
    t.match(log, [{
      code: 'FST_BOTAS_STATE_SAVE_FAILED',
      err: { message: outcome }
    }])
    t.strictSame(await storage.read([CONVERSATION_KEY, USER_KEY]), { [CONVERSATION_KEY]: { n: 1 }, [USER_KEY]: storage instanceof MemoryStorage ? { set: true } : { set: true, update: true } })
  })
}

for (const [name, open] of Object.entries(storages)) {
  t.test(`an update that cannot be applied to what another turn stored is told by name and key, not by value: ${name}`, async (t) => {
    const storage = await open(t)
    const { app, url, log } = await buildFastify(t, { storage }, (app) => {
      app.post('/', async ({ state }) => {
        state.conversation.update<string[]>('lines', (lines = []) => lines.concat(['x'].map((x) => x.toUpperCase()), lines.at(-1)?.trim() ?? []))
        await app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: 'conversation-1' }, ({ conversation }) => {
          conversation.set('lines', { secret: 'hunter2', at: 'hunter2' })
        })
        return {}
      })
    })
    t.equal((await post(url, message())).status, 200)
    await settled(() => log.length > 0)
    t.match(log, [{ code: 'FST_BOTAS_STATE_SAVE_FAILED', err: { message: /update of "lines" in the conversation state threw a TypeError/ } }])
    t.match(app.botasState.stats.lastError, { message: /"lines".*TypeError/ })
    t.notMatch(JSON.stringify([log, app.botasState.stats]), /hunter/)
    t.strictSame(await storage.read([CONVERSATION_KEY]), { [CONVERSATION_KEY]: { lines: { secret: 'hunter2', at: 'hunter2' } } })
  })

  t.test(`an update after a set, be it to what was there, or after a delete, is part of that: ${name}`, async (t) => {
    for (const [before, decide, expected] of [
      [{ n: 5 }, (scope: StateScope) => scope.set('n', 5), { n: 6 }],
      [{ n: 5 }, (scope: StateScope) => { scope.update('n', () => 4); scope.set('n', 5) }, { n: 6 }],
      [{ other: 1 }, (scope: StateScope) => scope.delete('n'), { other: 1, n: 1 }]
    ] as const) {
      const storage = await open(t)
      await storage.write({ [CONVERSATION_KEY]: before })
      const { app } = await buildFastify(t, { storage }, () => {})
      const identity = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1' }
      await app.botasState.run(identity, async ({ conversation }) => {
        decide(conversation)
        conversation.update<number>('n', (n = 0) => n + 1)
        await app.botasState.run(identity, ({ conversation }) => conversation.set('n', 100))
      })
      t.strictSame(await storage.read([CONVERSATION_KEY]), { [CONVERSATION_KEY]: expected })
      await app.close()
    }
  })
}

t.test('an update that throws what is no error, when it is applied again, is told by the kind of that', async (t) => {
  const { app } = await buildFastify(t, {}, () => {})
  const identity = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1' }
  const turn = app.botasState.run(identity, async ({ conversation }) => {
    conversation.update<string | undefined>('word', (word) => {
      if (word !== undefined) throw word
      return 'first'
    })
    await app.botasState.run(identity, ({ conversation }) => conversation.set('word', 'hunter2'))
  })
  const error = await turn.then(() => t.fail('saved'), (error) => error)
  t.match(error, { code: 'FST_BOTAS_STATE_SAVE_FAILED', cause: { message: /"word".*threw a string when/ } })
  t.notMatch(JSON.stringify([error, error.cause.message]), /hunter/)
})

t.test('a writer that loses every race gives up at flushTimeout, says so, and writes nothing', async (t) => {
  const client = new Redis(redis.url)
  t.teardown(() => client.disconnect())
  const inner = new RedisStorage(client, { keyPrefix: 'rivals:' })
  let rounds = 0
  const storage: Storage = {
    read: (keys) => inner.read(keys),
    write: (changes) => inner.write(changes),
    delete: (keys) => inner.delete(keys),
    update: (key, change, loaded) => inner.update(key, (current) => {
      // On the same connection, so that it always comes first.
      client.set(`rivals:${key}`, JSON.stringify({ round: rounds++ }))
      return change(current)
    }, loaded)
  }
  const { url } = await buildFastify(t, { storage, flush: 'onSend', flushTimeout: 200 }, (app) => {
    app.post('/', async ({ state }) => { state.conversation.set('mine', true) })
  })
  t.match((await post(url, message())).body, { code: 'FST_BOTAS_STATE_SAVE_FAILED', message: CONVERSATION_KEY })
  await wait(50)
  const settledRounds = rounds
  await wait(50)
  t.equal(rounds, settledRounds, 'it does not go on')
  t.ok(rounds > 3, 'it tried')
  t.strictSame(await inner.read([CONVERSATION_KEY]), { [CONVERSATION_KEY]: { round: rounds - 1 } })
})
