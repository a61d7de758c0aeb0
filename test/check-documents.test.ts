import { readFile, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { mock } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { Redis } from 'ioredis'
import pg from 'pg'
import t, { type Test } from 'tap'
import { z } from 'zod'
import {
  type BotasStateOptions, type DocumentsOptions, FileStorage, MemoryStorage, type Storage, type Upgrade, checkDocuments, conversationKey, encrypted, userKey
} from '../lib/index.js'
import { PostgresStorage } from '../lib/storage/postgres/postgres-storage.js'
import { RedisStorage } from '../lib/storage/redis/redis-storage.js'
import { ENCRYPTION, KEYS } from './helpers/encryption.js'
import { wholeDocuments } from './helpers/recording-storage.js'
import { startRedis } from './helpers/redis-server.js'
import { freshTable } from './helpers/shared-servers.js'
import { slowStorage } from './helpers/slow-storage.js'

const upgrade: Upgrade = ({ nick, ...rest }) => {
  if (nick === 'hunter2') throw new Error(`no name for ${nick}`)
  return { ...rest, name: nick }
}

const documents: DocumentsOptions = {
  user: { schema: z.object({ name: z.string(), age: z.number().optional() }), version: { key: 'v', upgrades: { 2: upgrade } } },
  conversation: { schema: z.object({ topic: z.string().refine((topic) => new URL(topic) !== null) }) }
}

const user = (userId: string) => userKey({ channelId: 'test', botId: 'bot', userId })
const conversation = (conversationId: string) => conversationKey({ channelId: 'test', botId: 'bot', conversationId })

/** What is stored, by its text, and what is to be said of it. */
const cases: Array<[key: string, text: string | undefined, failing?: { code: string, message: RegExp }]> = [
  [user('old'), '{"nick":"Ada","n":1.0}'],
  [user('new'), '{ "name": "Ada", "v": 2, "more": true }'],
  [user('missing'), undefined],
  [user('invalid'), '{"name":"Ada","age":"hunter2","v":2}', { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT', message: /users\/invalid" does not fit its schema: age: Invalid input/ }],
  [user('invalid when upgraded'), '{"nick":4711}', { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT', message: /does not fit its schema: name/ }],
  [user('newer'), '{"v":3}', { code: 'FST_BOTAS_STATE_NEWER_DOCUMENT', message: /has version 3, and this code knows version 2 at most/ }],
  [user('of no version'), '{"v":"hunter2"}', { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT', message: /has a version that is no whole number from 1, its member "v"/ }],
  [user('failing'), '{"nick":"hunter2"}', { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT', message: /could not be upgraded: the upgrade to version 2 threw an error;/ }],
  [conversation('fits'), '{"topic":"https://fastify.dev","a/b":1}'],
  [conversation('throwing'), '{"topic":"hunter2"}', { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT', message: /conversations\/throwing" could not be checked: its schema returned a promise/ }],
  [conversation('users/hunter2'), '{"topic":"https://fastify.dev"}'],
  ['state', undefined, { code: 'FST_BOTAS_STATE_INVALID_ID', message: /^"key" is not a valid id: expected a document key, \{channelId\}\/\{botId\}\/conversations\/\{id\} or …\/users\/\{id\}$/ }]
]
const corrupt: typeof cases = [
  [user('corrupt'), '{"name":"hunter2"', { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT', message: /users\/corrupt" is not a complete JSON object/ }],
  [conversation('a list'), '["hunter2"]', { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT', message: /is an array, not a JSON object/ }]
]

interface Prepared {
  storage: Storage
  store: (key: string, text: string) => Promise<unknown>
  /** all that a dry run must not change of a document: its bytes, and how long it lives */
  look: (key: string) => Promise<unknown>
  cases?: typeof cases
}

const storages: Record<string, (t: Test) => Promise<Prepared>> = {
  memory: async () => {
    const storage = new MemoryStorage()
    return { storage, store: (key, text) => storage.write({ [key]: JSON.parse(text) }), look: (key) => storage.read([key]), cases }
  },
  'a storage of three methods': async () => {
    const slow = slowStorage(1)
    return { storage: wholeDocuments(slow), store: (key, text) => slow.store(key, JSON.parse(text)), look: (key) => slow.stored(key), cases }
  },
  files: async (t) => {
    const directory = t.testdir()
    const pathOf = (key: string) => join(directory, `${encodeURIComponent(key)}.json`)
    const anHourAgo = Date.now() / 1000 - 3600
    return {
      storage: new FileStorage(directory, { ttl: 86_400, renew: 'load' }),
      store: async (key, text) => {
        await writeFile(pathOf(key), text)
        await utimes(pathOf(key), anHourAgo, anHourAgo)
      },
      look: async (key) => Promise.all([readFile(pathOf(key), 'utf8'), stat(pathOf(key)).then(({ ino, mtimeMs }) => [ino, mtimeMs])]).catch(() => undefined)
    }
  },
  Redis: async (t) => {
    const client = new Redis((await startRedis(t)).url)
    t.teardown(() => client.disconnect())
    return {
      storage: new RedisStorage(client, { ttl: 86_400, renew: 'load' }),
      store: (key, text) => client.set(`botas:${key}`, text, 'EX', 60),
      look: async (key) => [await client.get(`botas:${key}`), Math.round(await client.ttl(`botas:${key}`) / 60)]
    }
  },
  ...process.env.TEST_STORAGES !== undefined && {
    Postgres: async (t: Test) => {
      const { url, table } = await freshTable()
      const pool = new pg.Pool({ connectionString: url })
      t.teardown(() => pool.end())
      const storage = new PostgresStorage(pool, { table, ttl: 86_400, renew: 'load' })
      return {
        storage,
        store: async (key, text) => {
          await storage.write({ [key]: {} })
          await pool.query(`UPDATE ${table} SET text = $1, expires = now() + interval '1 minute' WHERE key = $2`, [text, key])
        },
        look: async (key) => (await pool.query(`SELECT * FROM ${table} WHERE key = $1`, [key])).rows
      } satisfies Prepared
    }
  }
}

// The first one: deadlines of one length share a timer, which is the mocked one then.
t.test('a storage that never answers, and one that hears that nobody waits any more, reject after half a minute', async (t) => {
  const hanging = { ...wholeDocuments(slowStorage()), read: () => new Promise<never>(() => {}) }
  const patient: Storage = {
    ...hanging,
    read: (_keys, call) => new Promise((_resolve, reject) => call?.signal.addEventListener('abort', () => reject(new Error('given up'))))
  }
  const now = performance.now()
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.reset())
  const dryRuns = [hanging, patient].map((storage) => checkDocuments(storage, [user('1')], { documents }))
  const outcomes = Promise.allSettled(dryRuns)
  await new Promise(setImmediate)
  mock.method(performance, 'now', () => now + 31_000)
  mock.timers.tick(30_000)
  const code = 'FST_BOTAS_STATE_LOAD_FAILED'
  t.match(await outcomes, [{ reason: { code, cause: { message: 'no answer within 30000 ms' } } }, { reason: { code, cause: { message: 'given up' } } }])
})

for (const [title, prepare] of Object.entries(storages)) {
  t.test(`a dry run names the documents that would fail, in their order, and changes nothing: ${title}`, async (t) => {
    const { storage, store, look, cases: some = [...cases, ...corrupt] } = await prepare(t)
    for (const [key, text] of some) if (text !== undefined) await store(key, text)
    const keys = some.map(([key]) => key)
    const before = await Promise.all(keys.map(look))
    const failing = await checkDocuments(storage, keys, { documents })
    const expected = some.flatMap(([key,, problem]) => problem === undefined ? [] : [{ key, ...problem }])
    t.strictSame(failing.map(({ key }) => key), expected.map(({ key }) => key))
    t.match(failing, expected)
    t.strictSame(failing.map((problem) => Object.keys(problem)), failing.map(() => ['key', 'code', 'message']))
    t.notMatch(JSON.stringify(failing.map(({ message }) => message)), /hunter|4711/)
    t.strictSame(await Promise.all(keys.map(look)), before)
    t.strictSame(await checkDocuments(storage, keys, documents), failing, 'the options may be given by themselves')
    t.match(await checkDocuments(storage, ['test/bot/users/half \ud83e', 'test/bot/users/nothing \0', user('invalid')], documents), [
      { key: 'test/bot/users/half \ud83e', code: 'FST_BOTAS_STATE_INVALID_ID', message: /^"key" is not a valid id: it has half of a surrogate pair$/ },
      { key: 'test/bot/users/nothing \0', code: 'FST_BOTAS_STATE_INVALID_ID', message: /^"key" is not a valid id: it has a control character$/ },
      { key: user('invalid'), code: 'FST_BOTAS_STATE_INVALID_DOCUMENT' }
    ], 'a key that no turn can have is one of those')
    await storage.close?.()
  })
}

t.test('without rules only what is corrupt, and what is no key, would fail', async (t) => {
  const { storage, store } = await (storages.files as (typeof storages)[string])(t)
  const all = [...cases, ...corrupt]
  for (const [key, text] of all) if (text !== undefined) await store(key, text)
  for (const options of [{}, { documents: undefined }, { documents: { user: undefined, conversation: {} } }]) {
    const failing = await checkDocuments(storage, all.map(([key]) => key), options)
    t.strictSame(failing.map(({ code }) => code), ['FST_BOTAS_STATE_INVALID_ID', 'FST_BOTAS_STATE_CORRUPT_DOCUMENT', 'FST_BOTAS_STATE_CORRUPT_DOCUMENT'])
  }
})

t.test('in memory no document lives longer for it, nor is another one evicted', async (t) => {
  const storage = new MemoryStorage({ ttl: 1, renew: 'load', maxDocuments: 2 })
  await storage.write({ [user('first')]: { name: 'Ada', v: 2 }, [user('second')]: { name: 'Grace', v: 2 } })
  await wait(700)
  t.strictSame(await checkDocuments(storage, [user('first')], { documents }), [])
  await storage.write({ [user('third')]: { name: 'Joan', v: 2 } })
  t.strictSame(Object.keys(await storage.read([user('first')])), [], 'it is still the least recently used one')
  t.strictSame(await checkDocuments(storage, [user('second')], { documents }), [])
  await wait(500)
  t.strictSame(await storage.read([user('second')]), {})
  await storage.close()
})

t.test('keys come from any iterable, as many as there are, a hundred documents at a time', async (t) => {
  const storage = slowStorage(1)
  const keys = Array.from({ length: 250 }, (_, n) => user(`${n}`))
  for (const [n, key] of keys.entries()) await storage.store(key, { name: n % 100 === 0 ? n : 'Ada', v: 2 })
  async function * later (): AsyncGenerator<string> {
    for (const key of keys) {
      if (key.endsWith('0')) await wait(1)
      yield key
    }
  }
  const expected = ['0', '100', '200'].map((n) => ({ key: user(n), code: 'FST_BOTAS_STATE_INVALID_DOCUMENT' }))
  for (const some of [keys, new Set(keys), keys.values(), later()]) {
    storage.calls.length = 0
    t.match(await checkDocuments(storage, some, { documents }), expected)
    t.strictSame(storage.calls.map(([method, keys]) => [method, keys.length]), [['read', 100], ['read', 100], ['read', 50]])
  }
  storage.calls.length = 0
  t.strictSame(await checkDocuments(storage, [], { documents }), [])
  t.strictSame(storage.calls, [])
})

t.test('the storage stays open', async (t) => {
  const storage = slowStorage(1)
  await storage.store(user('1'), { name: 7, v: 2 })
  await checkDocuments(storage, [user('1')], { documents })
  t.equal(storage.count('close'), 0)
})

t.test('a storage is told how long it may take, that nothing is to be renewed, and may try again', async (t) => {
  const storage: Storage = {
    ...wholeDocuments(slowStorage()),
    read: async (_keys, call) => {
      call?.retrying()
      t.match(call, { timeout: 30_000, renews: false, signal: { aborted: false } })
      return { [user('1')]: { name: 'Ada', v: 2 } }
    }
  }
  t.strictSame(await checkDocuments(storage, [user('1')], { documents }), [])
})

t.test('wrong options are refused before anything is read', async (t) => {
  const storage = slowStorage()
  const wrong: Array<[options: unknown, message: RegExp]> = [
    [undefined, /^the option "options" must be an object, got undefined$/],
    [null, /^the option "options" must be an object, got null$/],
    [7, /^the option "options" must be an object, got 7$/],
    [[documents], /^the option "options" must be an object, got an array$/],
    [{ documents: 7 }, /^the option "documents" must be an object, got 7$/],
    [{ documents: { user: { scheme: 1 } } }, /^unknown option "documents\.user\.scheme"/],
    [{ documents: { users: {} } }, /^unknown option "documents\.users"; known options: documents\.conversation, documents\.user$/],
    [{ document: {} }, /^unknown option "document"; known options: storage, .*documents/],
    [{ users: {} }, /^unknown option "users"; known options: storage, .*documents/],
    [{ user: {}, conversations: {} }, /^unknown option "documents\.conversations"; known options: documents\.conversation, documents\.user$/],
    [{ user: {}, documents: {} }, /^unknown option "documents\.documents"/],
    [{ conversation: { scheme: 1 } }, /^unknown option "documents\.conversation\.scheme"/]
  ]
  for (const [options, message] of wrong) {
    await t.rejects(checkDocuments(storage, [user('1')], options as DocumentsOptions), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message }, String(message))
  }
  t.strictSame(storage.calls, [])
})

t.test('the options may be all those of the plugin, with or without rules', async (t) => {
  const storage = slowStorage(1)
  await storage.store(user('1'), { name: 7, v: 2 })
  const options: BotasStateOptions = { storage, flush: 'onSend', once: true }
  t.strictSame(await checkDocuments(storage, [user('1')], options), [])
  t.match(await checkDocuments(storage, [user('1')], { ...options, documents }), [{ code: 'FST_BOTAS_STATE_INVALID_DOCUMENT' }])
})

t.test('what is no storage is refused, and not shown', async (t) => {
  const wrong: Array<[storage: unknown, got: string]> = [['redis://:hunter2@localhost', 'a string'], [undefined, 'undefined'], [{ read () {} }, 'an object'], [MemoryStorage, 'a function']]
  for (const [storage, got] of wrong) {
    await t.rejects(checkDocuments(storage as Storage, [user('1')], { documents }), {
      code: 'FST_BOTAS_STATE_INVALID_OPTION', message: `the option "storage" must be a storage object, such as new RedisStorage(url) in place of a URL, got ${got}`
    })
  }
})

t.test('what is no list of keys is refused, and not shown', async (t) => {
  const storage = slowStorage()
  const wrong: Array<[keys: unknown, got: string]> = [
    [user('1'), 'a string'], ['', 'a string'], [undefined, 'undefined'], [null, 'null'], [7, 'a number'], [{ length: 1, 0: user('1') }, 'an object']
  ]
  for (const [keys, got] of wrong) {
    await t.rejects(checkDocuments(storage, keys as string[], { documents }), {
      code: 'FST_BOTAS_STATE_INVALID_OPTION', message: `the option "keys" must be an array, or another iterable, of keys, got ${got}`
    })
  }
  t.strictSame(storage.calls, [])
})

t.test('what is no key is named in its place, and the storage is not asked for it', async (t) => {
  const storage = slowStorage(1)
  await storage.store(user('1'), { name: 7, v: 2 })
  const expected = 'expected a document key, {channelId}/{botId}/conversations/{id} or …/users/{id}'
  const code = 'FST_BOTAS_STATE_INVALID_ID'
  t.match(await checkDocuments(storage, ['state', 4711, user('1'), null, { name: 'hunter2' }] as string[], { documents }), [
    { key: 'state', code, message: `"key" is not a valid id: ${expected}` },
    { key: 'a number', code, message: `"key" is not a valid id: ${expected}, got a number` },
    { key: user('1'), code: 'FST_BOTAS_STATE_INVALID_DOCUMENT' },
    { key: 'null', code, message: `"key" is not a valid id: ${expected}, got null` },
    { key: 'an object', code, message: `"key" is not a valid id: ${expected}, got an object` }
  ])
  t.strictSame(storage.calls, [['read', [user('1')]]])
  t.equal((await checkDocuments(storage, ['state', 'users/1'], { documents })).length, 2)
  t.equal(storage.count('read'), 1)
})

t.test('a storage that cannot be read rejects with its error as the cause, and names the first document', async (t) => {
  const storage = slowStorage(1)
  storage.failures.read = new Error('the disk is gone')
  const code = 'FST_BOTAS_STATE_LOAD_FAILED'
  await t.rejects(checkDocuments(storage, [user('1')], { documents }), {
    code, message: `the state could not be loaded: "${user('1')}"`, cause: { message: 'the disk is gone' }
  })
  const keys = Array.from({ length: 250 }, (_, n) => user(String(n)))
  await t.rejects(checkDocuments(storage, ['state', ...keys], { documents }), { code, message: `the state could not be loaded: "${user('0')}", and 98 more` })
  storage.failures.read = (key) => key === user('100') ? new Error('the disk is gone') : undefined
  await t.rejects(checkDocuments(storage, keys, { documents }), { code, message: `the state could not be loaded: "${user('100')}", and 99 more` })
  const directory = t.testdir({ state: 'a file' })
  await t.rejects(checkDocuments(new FileStorage(join(directory, 'state')), [user('1')], { documents }), { code, cause: { code: 'ENOTDIR' } })
})

t.test('keys that break off reject as they do', async (t) => {
  async function * broken (): AsyncGenerator<string> {
    yield user('1')
    throw new Error('no more keys')
  }
  await t.rejects(checkDocuments(new MemoryStorage(), broken(), { documents }), { message: 'no more keys' })
})

t.test('documents are checked as they are decrypted, and those that cannot be are named', async (t) => {
  for (const storage of [new MemoryStorage(), wholeDocuments(slowStorage(1))]) {
    const old = encrypted(storage, { keys: { current: '2026-05', '2026-05': KEYS['2026-05'] } })
    await old.write({ [user('old key')]: { name: 'hunter2', v: 2 } })
    const now = encrypted(storage, { keys: { current: '2026-11', '2026-11': KEYS['2026-11'] } })
    await now.write({ [user('fits')]: { nick: 'Ada' }, [user('invalid')]: { name: 4711, v: 2 } })
    await storage.write({ [user('plain')]: { name: 'hunter2', v: 2 } })
    const keys = ['old key', 'fits', 'missing', 'invalid', 'plain'].map(user)
    const before = await storage.read(keys)
    const failing = await checkDocuments(now, keys, { documents })
    t.match(failing, [
      { key: user('old key'), code: 'FST_BOTAS_STATE_CANNOT_DECRYPT', message: /2026-05/ },
      { key: user('invalid'), code: 'FST_BOTAS_STATE_INVALID_DOCUMENT', message: /schema: name: Invalid input/ },
      { key: user('plain'), code: 'FST_BOTAS_STATE_CANNOT_DECRYPT', message: /it is not encrypted, and the option "plaintext" is "refuse"/ }
    ])
    t.equal(failing.length, 3)
    t.notMatch(JSON.stringify(failing), /hunter|4711/)
    const { read, write, delete: remove } = now
    const wrapped = await checkDocuments({ read, write, delete: remove }, keys, { documents })
    t.strictSame(wrapped.map(({ key, code }) => [key, code]), failing.map(({ key, code }) => [key, code]), 'also where something wraps it')
    const both = encrypted(storage, { ...ENCRYPTION, plaintext: 'accept' })
    t.strictSame((await checkDocuments(both, keys, { documents })).map(({ key }) => key), [user('invalid')])
    t.strictSame(await storage.read(keys), before)
  }
})
