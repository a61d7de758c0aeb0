import Fastify from 'fastify'
import t from 'tap'
import botasState, { type BotasStateOptions, FileStorage, MemoryStorage, errorCodes } from '../lib/index.js'
import { RedisStorage } from '../lib/storage/redis-storage.js'

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
    [{ storage: 'redis:' }, /"storage".*"redis:"/],
    [{ storage: { read () {}, write () {} } }, /"storage"/],
    [{ storage: '' }, /"storage".*""/],
    [{ storage: 'mongodb://localhost' }, /"storage".*"mongodb:\/\/localhost"/],
    [{ storage: 'memory:1' }, /"storage".*"memory:1"/],
    [{ storage: './bot-state' }, /"storage".*"\.\/bot-state"/],
    [{ storage: 'file:' }, /"storage".*"file:"/],
    [{ storage: 'file://host/path' }, /"storage".*"file:\/\/host\/path"/],
    [{ storge: 'memory:' }, /"storge" must be one of storage, identify, flush, loadTimeout, flushTimeout/],
    [{ flushtimeout: 5 }, /"flushtimeout"/],
    [{ identify: 'me' }, /"identify".*'me'/],
    [{ flush: 'later' }, /"flush".*'later'/],
    [{ loadTimeout: 0 }, /"loadTimeout".*0/],
    [{ loadTimeout: 0.5 }, /"loadTimeout".*from 1 to.*0\.5/],
    [{ loadTimeout: '5s' }, /"loadTimeout".*'5s'/],
    [{ loadTimeout: Number.NaN }, /"loadTimeout".*NaN/],
    [{ flushTimeout: -1 }, /"flushTimeout".*-1/],
    [{ flushTimeout: Infinity }, /"flushTimeout".*Infinity/],
    [{ flushTimeout: 2 ** 31 }, /"flushTimeout".*2147483648/]
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

t.test('a wrong URL does not show its password', async (t) => {
  for (const storage of ['redsi://user:hunter2@localhost', 'redis://user:hunter2@[', 'Redis:user:hunter2@localhost', { url: 'redis://user:hunter2@localhost' }]) {
    const error = await register({ storage }).then(() => t.fail('registered'), (error) => error)
    t.match(error, { code: 'FST_BOTAS_STATE_INVALID_OPTION' })
    t.notMatch(error.message, /hunter/)
  }
})

t.test('every error code is exported under its own name', async (t) => {
  const named = ['INVALID_OPTION', 'INVALID_PATH', 'NOT_SERIALIZABLE', 'INVALID_ID', 'NOT_A_TURN', 'NOT_LOADED', 'TURN_ENDED', 'FAILED', 'LOAD_FAILED', 'CORRUPT_DOCUMENT', 'SAVE_FAILED']
  t.strictSame(Object.keys(errorCodes).sort(), named.sort().map((name) => `FST_BOTAS_STATE_${name}`))
  for (const [code, Constructor] of Object.entries(errorCodes)) {
    t.match(Reflect.construct(Constructor, ['a', 'b', 'c']), { code })
  }
})
