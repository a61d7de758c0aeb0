import { once } from 'node:events'
import { setTimeout as wait } from 'node:timers/promises'
import Module from 'node:module'
import { type AddressInfo, connect as netConnect, createServer } from 'node:net'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { RedisStorage } from '../../../lib/storage/redis/redis-storage.js'
import { settled } from '../../helpers/build-fastify.js'
import { freePort } from '../../helpers/free-port.js'
import { startRedis } from '../../helpers/redis-server.js'
import { storageSuite } from '../../helpers/storage-suite.js'

const server = await startRedis(t)

/** A client of the test's own, on an empty database. */
async function connect (t: Test, options = {}): Promise<Redis> {
  const client = new Redis(server.url, options)
  t.teardown(() => client.disconnect())
  await client.flushall()
  return client
}

t.test('with a URL', async (t) => {
  storageSuite(t, (t, options) => new RedisStorage(server.url, { ...options, keyPrefix: `${t.fullname}:` }))
})

t.test('with a client of the user\'s', async (t) => {
  const client = await connect(t)
  storageSuite(t, (t, options) => new RedisStorage(client, { ...options, keyPrefix: `${t.fullname}:` }))
})

t.test('a document is a string at the prefix and the key', async (t) => {
  const client = await connect(t)
  const storage = new RedisStorage(client)
  await storage.write({ 'c/b/users/Zoë': { name: 'Zoë' } })
  await storage.update('c/b/users/Zoë', (current) => ({ ...current, n: 1 }))
  t.strictSame((await client.keys('*')).filter((key) => !key.startsWith('botas:~')), ['botas:c/b/users/Zoë'])
  t.equal(await client.get('botas:c/b/users/Zoë'), '{"name":"Zoë","n":1}')
  t.equal(await client.ttl('botas:c/b/users/Zoë'), -1, 'it does not expire')

  await new RedisStorage(client, { keyPrefix: 'mybot:' }).write({ key: { n: 1 } })
  t.equal(await client.get('mybot:key'), '{"n":1}')
  await new RedisStorage(client, { keyPrefix: '' }).write({ key: { n: 2 } })
  t.equal(await client.get('key'), '{"n":2}')
})

t.test('the expiry is Redis\'s own, set by the command that saves', async (t) => {
  const client = await connect(t)
  const storage = new RedisStorage(client, { ttl: 100 })
  await storage.write({ written: { n: 1 } })
  t.equal(await client.ttl('botas:written'), 100)
  await client.expire('botas:written', 10)
  const { written } = await storage.read(['written'])
  t.equal(await client.ttl('botas:written'), 10)
  await client.config('RESETSTAT')
  await storage.update('written', (current) => ({ ...current, n: 2 }), written)
  t.equal(await client.ttl('botas:written'), 100)
  const stats = await client.info('commandstats')
  t.notMatch(stats, /cmdstat_(expire|persist)/)
  t.match(stats, /cmdstat_pexpire:calls=1,/, 'of what stands beside it')
})

t.test('a client\'s own prefix comes before that of the storage, once', async (t) => {
  const client = await connect(t)
  const storage = new RedisStorage(await connect(t, { keyPrefix: 'tenant:' }))
  await storage.write({ written: { n: 1 } })
  await storage.update('updated', () => ({ n: 1 }))
  t.strictSame((await client.keys('*')).sort(), ['tenant:botas:updated', 'tenant:botas:written', 'tenant:botas:~saved:{tenant:botas:updated}'])
  t.strictSame(await storage.read(['written', 'updated']), { written: { n: 1 }, updated: { n: 1 } })
})

t.test('an uncontended update is one command', async (t) => {
  const client = await connect(t)
  const storage = new RedisStorage(server.url)
  t.teardown(() => storage.close())
  await storage.update('key', () => ({ n: 1 }))
  const { key: loaded } = await storage.read(['key']) as { key: { n: number } }
  await client.config('RESETSTAT')
  await storage.update('key', (current) => ({ n: current?.n as number + 1 }), loaded)
  const stats = await client.info('commandstats')
  t.match(stats, /cmdstat_evalsha:calls=1,/)
  t.notMatch(stats, /cmdstat_eval:/)
  t.strictSame(await storage.read(['key']), { key: { n: 2 } })
})

t.test('updates work after the server forgot its scripts', async (t) => {
  const client = await connect(t)
  const storage = new RedisStorage(server.url)
  t.teardown(() => storage.close())
  await storage.update('key', () => ({ n: 1 }))
  await client.script('FLUSH')
  await storage.update('key', (current) => ({ n: current?.n as number + 1 }))
  t.strictSame(await storage.read(['key']), { key: { n: 2 } })
})

t.test('what is no document fails to load and to change, and stays as it is', async (t) => {
  const client = await connect(t)
  const storage = new RedisStorage(client)
  for (const value of [Buffer.from('{"secret":"hunter2"'), Buffer.from('["hunter2"]'), Buffer.from('{"secret":"hunter\xe9"}', 'latin1')]) {
    await client.set('botas:key', value)
    const corrupt = { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT', message: /"key"/ }
    await t.rejects(storage.read(['key']), corrupt)
    await t.rejects(storage.update('key', () => ({ n: 1 })), corrupt)
    t.same(await client.getBuffer('botas:key'), value)
  }
  await client.hset('botas:hash', { secret: 'hunter2' })
  await t.rejects(storage.read(['hash']), { message: /^Redis: WRONGTYPE/ })
  await t.rejects(storage.update('hash', () => ({ n: 1 })), { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT', message: /"hash" is not a string of Redis/ })
  t.strictSame(await client.hgetall('botas:hash'), { secret: 'hunter2' })
})

t.test('an error does not carry the values of a command', async (t) => {
  const client = await connect(t)
  const storage = new RedisStorage(client)
  await client.config('SET', 'maxmemory', '1')
  t.teardown(() => client.config('SET', 'maxmemory', '0'))
  for (const attempt of [storage.write({ key: { secret: 'hunter2' } }), storage.update('key', () => ({ secret: 'hunter2' }))]) {
    const error = await attempt.then(() => t.fail('stored'), (error) => error)
    t.match(error.message, /OOM/)
    t.notMatch(JSON.stringify({ ...error, message: error.message, cause: error.cause, stack: error.stack }), /hunter/)
  }
  await client.config('SET', 'maxmemory', '0')
})

t.test('a server that does not know a command is told of without the values', async (t) => {
  const { url } = await startRedis(t, ['--rename-command', 'EVALSHA', '', '--rename-command', 'SET', ''])
  const storage = new RedisStorage(url)
  t.teardown(() => storage.close())
  for (const attempt of [storage.write({ key: { secret: 'hunter2' } }), storage.update('key', () => ({ secret: 'hunter2' }))]) {
    const error = await attempt.then(() => t.fail('stored'), (error) => error)
    t.match(error.message, /unknown command '(SET|EVALSHA)'$/i)
    t.notMatch(error.stack, /hunter/)
  }
})

t.test('a client with options of its own is taken as it is', async (t) => {
  const storage = new RedisStorage(await connect(t, { stringNumbers: true, enableAutoPipelining: true, keyPrefix: 'a:' }))
  await storage.write({ key: { n: 1 } })
  await storage.update('key', (current) => ({ n: current?.n as number + 1 }))
  t.strictSame(await storage.read(['key']), { key: { n: 2 } })
})

t.test('an update whose answer is lost with its connection fails, and is not applied twice', async (t) => {
  await connect(t)
  let cutReplies = false
  const proxy = createServer((socket) => {
    const upstream = netConnect(server.port, '127.0.0.1')
    socket.pipe(upstream)
    upstream.on('data', (chunk) => cutReplies ? socket.destroy() : socket.write(chunk))
    for (const one of [socket, upstream]) one.on('error', () => {}).on('close', () => { socket.destroy(); upstream.destroy() })
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.teardown(() => proxy.close())
  const storage = new RedisStorage(`redis://127.0.0.1:${(proxy.address() as AddressInfo).port}`)
  t.teardown(() => storage.close())
  const increment = async () => {
    const { key: loaded } = await storage.read(['key'])
    cutReplies = loaded !== undefined
    await storage.update('key', (current) => ({ n: (current?.n as number ?? 0) + 1 }), loaded)
  }
  await increment()
  await t.rejects(increment(), { message: /^Redis: the connection was lost before the answer came/ })
  cutReplies = false
  t.strictSame(await storage.read(['key']), { key: { n: 2 } }, 'it was executed once')
})

t.test('a database that there is not is never taken for another one', async (t) => {
  const client = await connect(t)
  const storage = new RedisStorage(`${server.url}/99`)
  t.teardown(() => storage.close())
  const reasons: string[] = []
  storage.watch({ down: ({ message }) => { reasons.push(message) }, up: () => t.fail('it is not reached') })
  await t.rejects(storage.write({ key: { n: 1 } }), { message: /^Redis: / })
  await t.rejects(storage.update('key', () => ({ n: 1 })), { message: /^Redis: / })
  t.equal(await client.dbsize(), 0)
  t.match(reasons, ['Redis: ERR DB index is out of range'])
  const other = new RedisStorage(`${server.url}/3`)
  t.teardown(() => other.close())
  await other.write({ key: { n: 1 } })
  await client.select(3)
  t.equal(await client.get('botas:key'), '{"n":1}')
})

t.test('a call that nobody waits for any more does not wait for a connection', async (t) => {
  const storage = new RedisStorage(`redis://127.0.0.1:${await freePort()}`)
  t.teardown(() => storage.close())
  const call = { signal: AbortSignal.abort(), retrying: () => t.fail('it is not tried again') }
  await t.rejects(storage.read(['key'], call), { message: 'Redis: there is no connection' })
})

t.test('who gives up after his command was sent makes no outage of it', async (t) => {
  const port = await freePort()
  const storage = new RedisStorage(`redis://127.0.0.1:${port}`)
  t.teardown(() => storage.close())
  const told: string[] = []
  storage.watch({ down: () => { told.push('down') }, up: () => { told.push('up') } })
  const waiting = new AbortController()
  const reading = storage.read(['key'], { signal: waiting.signal, retrying: () => {} })
  await settled(() => told.length > 0)
  await startRedis(t, ['--port', String(port)])
  await reading
  waiting.abort()
  t.strictSame(told, ['down', 'up'])
})

t.test('a storage that is closed while it waits for a connection waits no more', async (t) => {
  const storage = new RedisStorage(`redis://127.0.0.1:${await freePort()}`)
  const call = { signal: new AbortController().signal, retrying: () => {} }
  const reading = storage.read(['key'], call)
  await wait(100)
  const rejected = t.rejects(reading, { message: 'Redis: the client was closed' })
  await storage.close()
  await rejected
  await t.rejects(storage.read(['key'], call), { message: 'Redis: the client was closed' })
})

t.test('a client of the user\'s that has ended is an outage', async (t) => {
  const client = await connect(t)
  const told: string[] = []
  const observer = { down: ({ message }: Error) => { told.push(message) }, up: () => t.fail('it does not come back') }
  const before = new RedisStorage(client)
  before.watch(observer)
  await client.quit()
  await settled(() => told.length === 1)
  await t.rejects(before.read(['key']), { message: 'Redis: Connection is closed.' })

  const ended = new Redis(server.url)
  await ended.quit()
  await settled(() => ended.status === 'end')
  new RedisStorage(ended).watch(observer)
  t.strictSame(told, ['Redis: the client was closed', 'Redis: the client was closed'])

  const unused = new Redis(server.url, { lazyConnect: true })
  unused.disconnect()
  await settled(() => unused.status === 'end')
  await t.rejects(new RedisStorage(unused).read(['key']), { message: 'Redis: Connection is closed.' })
})

t.test('commands leave also where a test has put its own clock in place of Node\'s', async (t) => {
  const client = await connect(t)
  const { setImmediate } = globalThis
  t.teardown(() => { globalThis.setImmediate = setImmediate })
  globalThis.setImmediate = (() => {}) as unknown as typeof setImmediate
  t.strictSame(await new RedisStorage(client).read(['not there']), {})
})

t.test('a script of somebody else\'s that runs long is waited for', async (t) => {
  const { url } = await startRedis(t, ['--busy-reply-threshold', '50'])
  const storage = new RedisStorage(url)
  t.teardown(() => storage.close())
  await storage.write({ key: { n: 1 } })
  const somebody = new Redis(url)
  t.teardown(() => somebody.disconnect())
  const running = somebody.eval(`local begun = redis.call('TIME')[1]
    while redis.call('TIME')[1] - begun < 2 do end`, 0)
  await settled(() => storage.read(['key']).then(() => false, ({ message }) => /^Redis: BUSY/.test(message)))
  let retries = 0
  const call = { signal: AbortSignal.timeout(5000), retrying: () => { retries++ } }
  await storage.update('key', (current) => ({ n: current?.n as number + 1 }), undefined, call)
  t.strictSame(await storage.read(['key'], call), { key: { n: 2 } })
  t.ok(retries > 0)
  await running
})

t.test('who watches is told of outages until it does not want to know any more', async (t) => {
  const storage = new RedisStorage(`redis://127.0.0.1:${await freePort()}`)
  const told: string[] = []
  const unwatch = storage.watch({ down: ({ message }) => { told.push(message) }, up: () => t.fail('it is not reached') })
  await t.rejects(storage.read(['key']))
  t.match(told, [/ECONNREFUSED/])
  unwatch()
  const late = storage.watch({ down: ({ message }) => { told.push(`late: ${message}`) }, up: () => t.fail('it is not reached') })
  t.match(told, [/ECONNREFUSED/, /^late: .*ECONNREFUSED/])
  late()
  await storage.close()
  t.equal(told.length, 2, 'that it is closed is no outage')
})

t.test('a server that is down fails at once, and works again when it is back', async (t) => {
  const port = await freePort()
  const storage = new RedisStorage(`redis://127.0.0.1:${port}`)
  t.teardown(() => storage.close())
  await t.rejects(storage.read(['key']), { message: /^Redis: there is no connection/ })
  await startRedis(t, ['--port', String(port)])
  await settled(() => storage.update('key', () => ({ n: 1 })).then(() => true, () => false))
  t.strictSame(await storage.read(['key']), { key: { n: 1 } })
})

t.test('without the package ioredis a URL says what to install', async (t) => {
  t.intercept(Module as unknown as Record<'_resolveFilename', unknown>, '_resolveFilename', {
    value: (name: string) => { throw Object.assign(new Error(`Cannot find module '${name}'`), { code: 'MODULE_NOT_FOUND' }) }
  })
  t.throws(() => new RedisStorage(server.url), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /npm install ioredis/ })
})

t.test('a client that the user made is not closed', async (t) => {
  const client = await connect(t)
  const storage = new RedisStorage(client)
  await storage.close()
  t.equal(await client.ping(), 'PONG')
})

t.test('a client that the storage made connects late and is closed for good', async (t) => {
  const client = await connect(t)
  const clients = async () => (await client.client('LIST') as string).trim().split('\n').length
  const before = await clients()
  const idle = new RedisStorage(server.url)
  t.equal(await clients(), before)
  await idle.close()

  const storage = new RedisStorage(server.url)
  await storage.read(['key'])
  t.equal(await clients(), before + 1)
  await storage.close()
  t.equal(await clients(), before)
  await t.rejects(storage.read(['key']), { message: 'Redis: the client was closed' })
})

t.test('a wrong connection or prefix is refused, without the credentials', async (t) => {
  for (const connection of ['http://localhost', 'redis:localhost', 'localhost:6379', 'redis://:hunter2@[', 'redis://:hunter2@a:1,b:x', 'redis://:hunter2@a:1,b:2/1', 'redis://a:1,', 7, null, {}]) {
    const { message } = t.throws(() => new RedisStorage(connection as string), {
      code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /connection/
    }) as unknown as Error
    t.notMatch(message, 'hunter')
  }
  for (const options of [null, 'keyPrefix', 5]) {
    t.throws(() => new RedisStorage(server.url, options as unknown as object), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /"options" must be an object/ })
  }
  for (const ttl of [0, -1, 1.5, 2 ** 31, '60', Number.NaN]) {
    t.throws(() => new RedisStorage(server.url, { ttl: ttl as number }), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /ttl/ })
  }
  t.throws(() => new RedisStorage(server.url, { prefix: 'a:' } as object), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /unknown option "prefix"; known options: keyPrefix, ttl/ })
  t.throws(() => new RedisStorage(server.url, { keyPrefix: 7 as unknown as string }), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /keyPrefix/ })
})
