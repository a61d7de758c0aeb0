import { inspect } from 'node:util'
import Fastify from 'fastify'
import t from 'tap'
import botasState, { type BotasStateOptions, FileStorage, MemoryStorage, errorCodes } from '../lib/index.js'
import { type BlobContainer, BlobStorage } from '../lib/storage/blob/blob-storage.js'
import { type CosmosContainer, CosmosDbStorage } from '../lib/storage/cosmos/cosmos-storage.js'
import { PostgresStorage } from '../lib/storage/postgres/postgres-storage.js'
import { RedisStorage } from '../lib/storage/redis/redis-storage.js'

async function register (options: unknown) {
  const app = Fastify()
  await app.register(botasState, options as BotasStateOptions)
  await app.close()
  return app.botasState.storage
}

t.test('a storage can be named by a URL', async (t) => {
  t.type(await register({}), MemoryStorage)
  t.type(await register(undefined), MemoryStorage)
  t.type(await register({ prefix: '/bot', logLevel: 'warn' }), MemoryStorage)
  t.type(await register({ storage: 'memory:' }), MemoryStorage)
  t.type(await register({ storage: 'file:./bot-state' }), FileStorage)
  t.type(await register({ storage: 'redis://localhost:1' }), RedisStorage)
  t.type(await register({ storage: 'rediss://user:password@localhost:1/2' }), RedisStorage)
})

t.test('a file URL names a relative or an absolute directory', async (t) => {
  const directory = t.testdir()
  const before = process.cwd()
  process.chdir(directory)
  t.teardown(() => process.chdir(before))
  for (const url of [`file://${directory}/a%20b`, `file:${directory}/a b`, 'file:a b', 'file:./a b']) {
    const storage = await register({ storage: url })
    await storage.write({ key: { url } })
    t.strictSame(await new FileStorage(`${directory}/a b`).read(['key']), { key: { url } })
  }
})

t.test('a wrong option is refused with its name and value', async (t) => {
  const wrong: Array<[object, RegExp]> = [
    [{ storage: 7 }, /"storage".*7/],
    [{ storage: null }, /"storage".*null/],
    [{ storage: {} }, /"storage".*an object/],
    [{ storage: 'redis:' }, /"storage".*got "redis:"$/],
    [{ storage: { read () {}, write () {} } }, /"storage"/],
    [{ storage: '' }, /"storage".*got an empty string$/],
    [{ storage: 'mongodb://localhost' }, /"storage".*got "mongodb:\/\/…"$/],
    [{ storage: 'memory:1' }, /"storage".*got "memory:…"$/],
    [{ storage: './bot-state' }, /"storage".*got a string that is not a URL$/],
    [{ storage: 'file:' }, /"storage".*got "file:"$/],
    [{ storage: 'file://host/path' }, /"storage".*got "file:\/\/…"$/],
    [{ storage: 'file:redis://host' }, /"storage".*got "file:…"$/],
    [{ storage: 'redis://localhost?tls=1' }, /"storage".*parameters among db, family, username and password, got "redis:\/\/…"$/],
    [{ storge: 'memory:' }, /^unknown option "storge"; known options: storage, identify, flush, concurrency, once, documents, loadTimeout, flushTimeout$/],
    [{ flushtimeout: 5 }, /"flushtimeout"/],
    [{ identify: 'me' }, /"identify".*"me"/],
    [{ identify: null }, /"identify".*null/],
    [{ flush: 'later' }, /"flush".*"later"/],
    [{ flush: 'on send!' }, /"flush".*got a string$/],
    [{ flush: () => 'onSend' }, /"flush".*got a function$/],
    [{ loadTimeout: 0 }, /"loadTimeout".*0/],
    [{ loadTimeout: 0.5 }, /"loadTimeout".*from 1 to.*0\.5/],
    [{ loadTimeout: '5s' }, /"loadTimeout".*"5s"/],
    [{ loadTimeout: Number.NaN }, /"loadTimeout".*NaN/],
    [{ flushTimeout: -1 }, /"flushTimeout".*-1/],
    [{ flushTimeout: Infinity }, /"flushTimeout".*Infinity/],
    [{ flushTimeout: 2 ** 31 }, /"flushTimeout".*2147483648/],
    [{ concurrency: 'serial' }, /"concurrency" must be one of parallel, queue, reject, replace, or a function of the request, got "serial"/],
    [{ concurrency: null }, /"concurrency".*null/],
    [{ concurrency: { strategy: 1 } }, /"concurrency.strategy".*got 1/],
    [{ concurrency: { maxwait: 1 } }, /unknown option "concurrency.maxwait"; known options: concurrency.strategy, concurrency.maxWait, /],
    [{ concurrency: { maxWait: 0 } }, /"concurrency.maxWait".*0/],
    [{ concurrency: { maxWaiting: -1 } }, /"concurrency.maxWaiting".*-1/],
    [{ concurrency: { maxWaiting: 1.5 } }, /"concurrency.maxWaiting".*1.5/],
    [{ concurrency: { lease: 'long' } }, /"concurrency.lease".*"long"/],
    [{ concurrency: { lease: 1000.5 } }, /"concurrency.lease" must be a whole number of milliseconds, got 1000.5/],
    [{ once: 'yes' }, /"once" must be true, false or an object, got "yes"/],
    [{ once: null }, /"once".*null/],
    [{ once: { time: 1 } }, /unknown option "once.time"; known options: once.ttl, once.keepReply, once.maxWait/],
    [{ once: { ttl: 0 } }, /"once.ttl".*0/],
    [{ once: { keepReply: -1 } }, /"once.keepReply".*-1/],
    [{ once: { maxWait: Infinity } }, /"once.maxWait".*Infinity/]
  ]
  for (const [options, message] of wrong) {
    const error = await register(options).then(() => t.fail(String(message)), (error) => error)
    t.match(error, { code: 'FST_BOTAS_STATE_INVALID_OPTION', statusCode: 500, message })
    t.ok(error instanceof TypeError)
    t.ok(error instanceof errorCodes.FST_BOTAS_STATE_INVALID_OPTION)
  }
})

t.test('a second registration in the same place fails and leaves the first one its storage', async (t) => {
  const app = Fastify()
  let closed = 0
  const storage = Object.assign(new MemoryStorage(), { close: async () => { closed++ } })
  await app.register(botasState, { storage })
  await t.rejects(async () => app.register(botasState, { storage }), { code: 'FST_ERR_DEC_ALREADY_PRESENT' })
  await app.close()
  t.equal(closed, 1)
})

/** What somebody may write who has "hunter2" for a password, and makes a mistake. */
const mistaken = [
  'redsi://user:hunter2@localhost', 'Redis://:hunter2@localhost', 'redis:user:hunter2@localhost', 'Redis:user:hunter2@localhost', 'redis:/:hunter2@localhost',
  'redis://user:hunter2@[', 'redis://:hunter2:localhost', 'redis://user:hunter2', 'redis://:hunter2/@localhost', 'redis://:hunter2?@localhost',
  'redis://localhost#password=hunter2', 'redis://localhost/#hunter2', 'redis://:50%hunter2@localhost', 'redis://a,b?password=hunter2', 'redis://:hunter2@a,b/1',
  'redis://:hunter2@a,', 'redis://localhost?pasword=hunter2', 'redis://localhost?port=hunter2', 'redis://localhost?connectTimeout=hunter2', 'redis://bot:1?hunter2@localhost',
  'redis://localhost/hunter2', 'http://:hunter2@localhost', 'mysql://bot:hunter2@localhost/db', 'postgres:bot:hunter2@localhost', 'Postgres://bot:hunter2@localhost/db', 'postgres://bot:hunter2',
  'postgres://bot:hunter2/@localhost', 'postgres://bot:1?hunter2@localhost', 'postgres://bot:1#hunter2@localhost',
  'postgres://localhost?sslcert=hunter2', 'postgres://bot:1/hunter2@localhost', '//:hunter2@localhost', ':hunter2@localhost', 'hunter2@localhost',
  'user:hunter2@localhost:6379', 'localhost:6379?password=hunter2', 'localhost,password=hunter2', 'memory:hunter2', 'memory:?password=hunter2',
  'file://user:hunter2@host/path', 'file:redis://:hunter2@localhost', ' redis://:hunter2@localhost', '"redis://:hunter2@localhost"', 'redis://:hunter2@local host',
  'REDIS_URL=redis://:hunter2@localhost'
]

t.test('no password is in an error about an option, wherever it is and whatever the mistake', async (t) => {
  const attempts: Array<(text: string) => unknown> = [
    (storage) => register({ storage }),
    (text) => register({ storage: { url: text } }),
    (text) => register({ storage: [text] }),
    (text) => register({ storage: Object.assign(() => {}, { text }) }),
    ...['identify', 'flush', 'loadTimeout', 'flushTimeout', 'redis'].map((option) => (text: string) => register({ [option]: text })),
    (text) => register({ [text]: true }),
    (text) => register({ [text]: text }),
    (text) => register(text),
    (text) => register([text]),
    (text) => register(Symbol(text)),
    (text) => new RedisStorage(text),
    (text) => new RedisStorage({ url: text } as unknown as string),
    (text) => new RedisStorage('redis://localhost', text as unknown as object),
    (text) => new RedisStorage('redis://localhost', { [text]: text } as object),
    (text) => new RedisStorage('redis://localhost', { ttl: text } as object),
    (text) => new RedisStorage('redis://localhost', { keyPrefix: { text } } as object),
    (text) => new PostgresStorage(text),
    (text) => new PostgresStorage({ url: text } as unknown as string),
    (text) => new PostgresStorage('postgres://localhost', { table: { text } } as object),
    (text) => new PostgresStorage('postgres://localhost', { [text]: text } as object),
    (text) => new PostgresStorage('postgres://localhost', { renew: text } as object),
    (text) => new BlobStorage(text as unknown as BlobContainer),
    (text) => new BlobStorage({ getBlockBlobClient () {} } as unknown as BlobContainer, { prefix: `${text}/../` }),
    (text) => new CosmosDbStorage(text as unknown as CosmosContainer),
    (text) => new FileStorage('./bot-state', { [text]: text } as object),
    (text) => new MemoryStorage(text as unknown as object),
    (text) => new MemoryStorage({ maxDocuments: text } as object)
  ]
  for (const text of mistaken) {
    for (const attempt of attempts) {
      const error = await Promise.resolve(text).then(attempt).then(() => t.fail(`${attempt} took ${text}`), (error) => error)
      t.equal(error.code, 'FST_BOTAS_STATE_INVALID_OPTION', `${attempt} ${text}`)
      t.notMatch(inspect(error, { depth: Infinity, showHidden: true }), /hunter/)
    }
  }
})

t.test('an unknown option is named, and of a URL in its place the scheme', async (t) => {
  await t.rejects(register({ 'flush-timeout': 1 }), { message: /^unknown option "flush-timeout"; / })
  await t.rejects(register({ 'redis://:hunter2@localhost': 1 }), { message: /^unknown option "redis:\/\/…"; / })
  await t.rejects(register({ 'user:hunter2@localhost': 1 }), { message: /^unknown option "…"; / })
})

t.test('no password of a storage is in a log line, be it a parameter of the URL or before its host', async (t) => {
  const told: unknown[] = []
  const stream = { write: (line: string) => { told.push(line) } }
  for (const url of ['redis://127.0.0.1:1?password=hunter2', 'redis://127.0.0.1:1?username=hunter2&password=hunter2', 'rediss://:hunter2@127.0.0.1:1', 'redis://:hunter2@127.0.0.1:1,127.0.0.1:2', 'postgres://bot:hunter2@127.0.0.1:1/db', 'postgres://127.0.0.1:1/db?password=hunter2']) {
    const app = Fastify({ logger: { level: 'trace', stream } })
    await app.register(botasState, { storage: url, loadTimeout: 100 })
    const error = await app.botasState.run({ channelId: 'c', botId: 'b', userId: 'u' }, () => {}).then(() => t.fail('reached'), (error) => error)
    told.push(error, app.botasState.stats, app.botasState.storage)
    await app.close()
    t.match(error, { code: 'FST_BOTAS_STATE_LOAD_FAILED' })
  }
  t.notMatch(inspect(told, { depth: 5 }), /hunter/)
})

t.test('every error code is exported under its own name', async (t) => {
  const named = ['INVALID_OPTION', 'INVALID_PATH', 'NOT_SERIALIZABLE', 'INVALID_ID', 'NOT_A_TURN', 'NOT_LOADED', 'TURN_ENDED', 'FAILED', 'LOAD_FAILED', 'CORRUPT_DOCUMENT', 'INVALID_DOCUMENT', 'NEWER_DOCUMENT', 'CANNOT_DECRYPT', 'SAVE_FAILED', 'BUSY', 'REPLACED', 'NOT_LOCAL']
  t.strictSame(Object.keys(errorCodes).sort(), named.sort().map((name) => `FST_BOTAS_STATE_${name}`))
  for (const [code, Constructor] of Object.entries(errorCodes)) {
    t.match(Reflect.construct(Constructor, ['a', 'b', 'c']), { code })
  }
})
