import { createSecretKey, generateKeyPairSync } from 'node:crypto'
import { readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { conformance } from '../../lib/conformance/conformance.js'
import { Cipher } from '../../lib/document/cipher.js'
import { encryptedText } from '../../lib/document/decrypted-document.js'
import { type EncryptionOptions, FileStorage, MemoryStorage, type StateDocument, type StateScope, type Storage, type TurnState, conversationKey, encrypted } from '../../lib/index.js'
import { RedisStorage } from '../../lib/storage/redis/redis-storage.js'
import { CONVERSATION_KEY, USER_KEY, message } from '../helpers/activities.js'
import { buildFastify, post, settled } from '../helpers/build-fastify.js'
import { ENCRYPTION, KEYS, encryptedAs } from '../helpers/encryption.js'
import { everythingIn } from '../helpers/everything-in-redis.js'
import { forgettingSuite } from '../helpers/forgetting-suite.js'
import { LeasesOnly, LeasingStorage, newServer } from '../helpers/leasing-storage.js'
import { onceStorages } from '../helpers/overlap-storages.js'
import { published } from '../helpers/published.js'
import { startProcess } from '../helpers/node-process.js'
import { startRedis } from '../helpers/redis-server.js'
import { slowStorage } from '../helpers/slow-storage.js'
import { storageSuite } from '../helpers/storage-suite.js'

const IDENTITY = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1', userId: 'user-1' }
const OLD: EncryptionOptions = { keys: { current: '2026-05', '2026-05': KEYS['2026-05'] } }
const SECRET = 'hunter2'

/** A bot that keeps what it is told. */
async function startBot (t: Test, storage: Storage, options = {}) {
  const bot = await buildFastify(t, { storage, flush: 'onSend', ...options }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state }) => {
      for (const scope of [state.conversation, state.user] as StateScope[]) {
        scope.set('last', text)
        scope.update<string[]>('all', (all = []) => [...all, text])
      }
      return { text }
    })
  })
  return { ...bot, run: <Result>(work: (state: TurnState) => Result) => bot.app.botasState.run(IDENTITY, work) }
}

/** A document, as a storage has it that is not encrypted. */
async function storedIn (storage: Storage, key = USER_KEY): Promise<Record<string, string>> {
  return (await storage.read([key]))[key] as Record<string, string>
}

t.test('every storage keeps its promises when it is encrypted', async (t) => {
  t.test('memory', async (t) => storageSuite(t, (_t, options) => encryptedAs(new MemoryStorage(options))))
  t.test('files', async (t) => storageSuite(t, (t, options) => encryptedAs(new FileStorage(t.testdir(), options))))
  const { url } = await startRedis(t)
  t.test('Redis', async (t) => storageSuite(t, (t, options) => encryptedAs(new RedisStorage(url, { ...options, keyPrefix: `${t.fullname}:` }))))
  const declare = (title: string, work: () => Promise<void>) => t.test(title, async (t) => { await t.resolves(work()) })
  conformance(declare, () => encrypted(new LeasingStorage(newServer(), 0), ENCRYPTION), { lease: true, once: true })
})

t.test('of what the bot is told nothing is on disk in clear, nor are kept replies', async (t) => {
  const directory = t.testdir()
  const { url } = await startBot(t, encrypted(new FileStorage(directory), ENCRYPTION), { once: true, concurrency: 'queue' })
  t.equal((await post(url, message({ text: SECRET }))).text, `{"text":"${SECRET}"}`)
  t.equal((await post(url, message({ text: SECRET }))).text, `{"text":"${SECRET}"}`, 'a second delivery gets the same')
  const names = (await readdir(directory, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile())
  t.equal(names.length, 3, 'two documents, and a mark')
  for (const { parentPath, name } of names) {
    const bytes = await readFile(join(parentPath, name))
    t.notOk(bytes.includes(SECRET), name)
    t.ok(bytes.includes('~encrypted:1:2026-11:'), name)
  }
})

t.test('of what the bot is told nothing is in Redis in clear, whatever key it is in', async (t) => {
  const redis = await startRedis(t)
  const { url } = await startBot(t, encrypted(new RedisStorage(redis.url), ENCRYPTION), { once: true, concurrency: 'queue' })
  for (const id of ['a', 'a', 'b']) await post(url, message({ id, text: SECRET }))
  const client = new Redis(redis.url)
  t.teardown(() => client.disconnect())
  const keys = await client.keys('*')
  t.ok(keys.length >= 4, keys.join())
  for (const record of await everythingIn(client)) t.notOk(record.includes(SECRET), record)
  t.match(await client.get(`botas:${USER_KEY}`), /^\{"last":"~encrypted:1:2026-11:[\w-]+","all":"~encrypted:1:2026-11:[\w-]+"\}$/)
})

t.test('nothing of a value is in logs, errors, figures and events when it cannot be decrypted', async (t) => {
  const storage = new MemoryStorage()
  const events = ['load', 'flush', 'place'].map((channel) => published(t, `botas-state:${channel}`))
  const { url } = await startBot(t, encrypted(storage, ENCRYPTION))
  await post(url, message({ text: SECRET }))
  const stored = await storedIn(storage)
  const stranger = await startBot(t, encrypted(storage, { keys: { current: '2026-11', '2026-11': Buffer.alloc(32, 1) } }), { concurrency: 'queue' })
  const reply = await post(stranger.url, message({ text: SECRET }))
  t.match(reply, { status: 500, body: { code: 'FST_BOTAS_STATE_CANNOT_DECRYPT', message: /the member "last" of the document "test\/bot\/conversations\/conversation-1" cannot be decrypted: the key "2026-11" does not open it/ } })
  const told = JSON.stringify([reply.text, stranger.log, stranger.app.botasState.stats, events])
  t.match(told, 'CANNOT_DECRYPT')
  for (const secret of [SECRET, stored.last, ...Object.values(KEYS).map((key) => key.toString('base64'))]) t.notOk(told.includes(String(secret)))
  t.strictSame(await storedIn(storage), stored)
})

const forged: Record<string, (user: Record<string, string>, conversation: Record<string, string>, stranger: Record<string, string>) => Record<string, string>> = {
  'a value that was changed': ({ last = '', all = '' }) => ({ last: `${last.slice(0, -6)}AAAAAA`, all }),
  'a value that was truncated': ({ last = '', all = '' }) => ({ last: last.slice(0, -5), all }),
  'a value of which only the beginning is left': ({ all = '' }) => ({ last: '~encrypted:1:2026-11:', all }),
  'values of two members that were swapped': ({ last = '', all = '' }) => ({ last: all, all: last }),
  'a value of another user': ({ all = '' }, _conversation, { last = '' }) => ({ last, all }),
  'a value of the conversation': ({ all = '' }, { last = '' }) => ({ last, all }),
  'a value of which the key is said to be another one': ({ last = '', all = '' }) => ({ last: last.replace('2026-11', '2026-05'), all }),
  'a value of a key that there is not': ({ last = '', all = '' }) => ({ last: last.replace('2026-11', '2025-01'), all }),
  'a value of a format that is not known': ({ last = '', all = '' }) => ({ last: last.replace('~encrypted:1:', '~encrypted:9:'), all }),
  'a value that is not encrypted': ({ all = '' }) => ({ last: 'forged', all })
}

for (const [title, forge] of Object.entries(forged)) {
  t.test(`${title} fails the turn that touches it, by its code, and is left as it is`, async (t) => {
    for (const storage of [new MemoryStorage(), slowStorage(2), new LeasingStorage()]) {
      const { url, app, run } = await startBot(t, encrypted(storage, ENCRYPTION))
      await post(url, message({ text: SECRET }))
      await post(url, message({ text: 'of somebody else', conversation: 'conversation-2', user: 'user-2' }))
      const forgery = forge(await storedIn(storage), await storedIn(storage, CONVERSATION_KEY), await storedIn(storage, 'test/bot/users/user-2'))
      await storage.write({ [USER_KEY]: forgery })
      const before = await storedIn(storage, CONVERSATION_KEY)
      t.match(await post(url, message({ text: 'again' })), { status: 500, body: { code: 'FST_BOTAS_STATE_CANNOT_DECRYPT', message: /^the member "\w+" of the document "test\/bot\/users\/user-1" cannot be decrypted: / } })
      await t.rejects(run(({ user }) => user.set('last', 1)), { code: 'FST_BOTAS_STATE_CANNOT_DECRYPT' }, 'it is not overwritten either')
      await t.rejects(run(({ user }) => user.toJSON()), { code: 'FST_BOTAS_STATE_CANNOT_DECRYPT' })
      await t.rejects(app.botasState.storage.read([USER_KEY]), { code: 'FST_BOTAS_STATE_CANNOT_DECRYPT' })
      t.strictSame([await storedIn(storage), await storedIn(storage, CONVERSATION_KEY)], [forgery, before], 'nothing of the turn is stored')
      t.equal(await run(({ conversation }) => conversation.get('last')), SECRET, 'the other scope works')
      await run((state) => state.deleteUserState())
      t.equal(await storedIn(storage), undefined, 'it can be deleted')
    }
  })
}

t.test('a value that was forged while a turn was at work is not overwritten by what is computed from it', async (t) => {
  for (const storage of [new MemoryStorage(), slowStorage(2), new LeasingStorage()]) {
    const { run } = await startBot(t, encrypted(storage, ENCRYPTION))
    const forgery = { n: '~encrypted:1:2026-11:forged' }
    await t.rejects(run(async ({ user, conversation }) => {
      conversation.set('n', 1)
      user.update<number>('n', (n = 0) => n + 1)
      await storage.write({ [USER_KEY]: forgery })
    }), { code: /^FST_BOTAS_STATE_(?:CANNOT_DECRYPT|SAVE_FAILED)$/ })
    t.strictSame(await storedIn(storage), forgery)
  }
})

t.test('a value is encrypted anew when it changes, and only then: until that an old key opens it', async (t) => {
  const storage = new MemoryStorage()
  const old = await startBot(t, encrypted(storage, OLD))
  await old.run(({ user }) => {
    user.set('name', 'Ada')
    user.set('visits', 1)
  })
  const before = await storedIn(storage)
  const { run } = await startBot(t, encrypted(storage, ENCRYPTION))
  await run(({ user }) => {
    t.equal(user.get('name'), 'Ada')
    user.update<number>('visits', (n = 0) => n + 1)
  })
  const after = await storedIn(storage)
  t.equal(after.name, before.name)
  t.match(after.visits, /^~encrypted:1:2026-11:/)
  await t.rejects(old.run(({ user }) => user.get('visits')), { code: 'FST_BOTAS_STATE_CANNOT_DECRYPT', message: /there is no key "2026-11" in the option "keys": add it/ })
  t.equal(await old.run(({ user }) => user.get('name')), 'Ada')
})

t.test('while a key is rotated, processes that encrypt with different ones undo nothing of each other', async (t) => {
  const redis = await startRedis(t)
  const ids = Object.keys(KEYS)
  const updating = ids.map((id) => startProcess(t, 'updates.js', `encrypted-${id}+${redis.url}`, id, '300', '4'))
  const plain = new RedisStorage(redis.url)
  t.teardown(() => plain.close())
  const encrypting = new Set<string | undefined>()
  const seen = settled(async () => {
    encrypting.add((await storedIn(plain, 'key'))?.n?.split(':')[2])
    return ids.every((id) => encrypting.has(id))
  })
  const apps = await Promise.all(ids.map((current) => startBot(t, encrypted(new RedisStorage(redis.url), { keys: { current, ...KEYS } }), { once: true, concurrency: 'queue' })))
  const replies = await Promise.all(Array.from({ length: 60 }, (_, n) => post(apps[n % 2]?.url as string, message({ id: `${n >> 1}`, text: String(n >> 1), conversation: String(n % 5), user: 'one' }))))
  t.strictSame([...new Set(replies.map(({ status }) => status))], [200])
  await seen
  for (const { exited } of updating) t.match(await exited, { code: 0, errors: '' })
  const { app } = apps[0] as typeof apps[number]
  t.strictSame(await app.botasState.storage.read(['key']), { key: { n: 600, '2026-05': 300, '2026-11': 300 } })
  const all = await app.botasState.run({ ...IDENTITY, userId: 'one' }, ({ user }) => user.get<string[]>('all'))
  // Each message was delivered to both, in two conversations.
  t.equal(all?.length, 60)
})

t.test('what a storage is asked to update is encrypted with the current key, so that a rotation comes to an end', async (t) => {
  for (const plain of [new MemoryStorage(), slowStorage(2), new LeasingStorage()]) {
    await encrypted(plain, OLD).write({ [USER_KEY]: { name: 'Ada', visits: 1 } })
    await plain.update(USER_KEY, (document) => ({ ...document, plain: true }))
    const rotating = encryptedAs(plain, { ...ENCRYPTION, plaintext: 'accept' })
    await rotating.update(USER_KEY, (document) => document)
    t.match(await storedIn(plain), { name: /^~encrypted:1:2026-11:/, visits: /^~encrypted:1:2026-11:/, plain: /^~encrypted:1:2026-11:/ })
    t.strictSame(await encrypted(plain, { keys: { current: '2026-11', '2026-11': KEYS['2026-11'] } }).read([USER_KEY]), { [USER_KEY]: { name: 'Ada', visits: 1, plain: true } })
  }
})

t.test('replicas may know the keys before one of them encrypts, so that none meets what it cannot read', async (t) => {
  for (const plain of [new MemoryStorage(), slowStorage(2), new LeasingStorage()]) {
    const first = await startBot(t, encrypted(plain, { keys: KEYS, plaintext: 'accept' }), { once: plain instanceof LeasingStorage })
    const second = await startBot(t, encrypted(plain, { ...ENCRYPTION, plaintext: 'accept' }), { once: plain instanceof LeasingStorage })
    await post(first.url, message({ id: 'a', text: 'plain' }))
    t.match(await storedIn(plain), { last: 'plain', all: ['plain'] })
    await post(second.url, message({ id: 'b', text: SECRET }))
    t.match(await storedIn(plain), { last: /^~encrypted:1:2026-11:/, all: /^~encrypted:1:2026-11:/ })
    t.strictSame(await first.run(({ user }) => user.get('all')), ['plain', SECRET])
    await first.app.botasState.storage.update?.(USER_KEY, (document) => ({ ...document, n: 1.5 }))
    t.match(await storedIn(plain), { last: /^~encrypted:1:2026-11:/, n: 1.5 })
    if (plain instanceof LeasingStorage) t.equal((await post(first.url, message({ id: 'b', text: 'again' }))).text, `{"text":"${SECRET}"}`)
  }
})

t.test('a text that looks like an encrypted one opens again, also where no key is current yet', async (t) => {
  const text = '~encrypted:1:2026-11:said by a user'
  for (const plain of [new MemoryStorage(), slowStorage(2), new LeasingStorage()]) {
    const storage = encryptedAs(plain, { keys: KEYS, plaintext: 'accept' })
    const { run } = await startBot(t, storage)
    await run(({ user }) => {
      user.set('said', text)
      user.set('list', [text])
    })
    t.strictSame(await run(({ user }) => user.toJSON()), { said: text, list: [text] })
    t.match(await storedIn(plain), { said: /^~encrypted:1:2026-05:[\w-]+$/, list: [text] })
    await storage.update(USER_KEY, (document) => ({ ...document, also: text }))
    t.strictSame(await encrypted(plain, { ...ENCRYPTION, plaintext: 'accept' }).read([USER_KEY]), { [USER_KEY]: { said: text, list: [text], also: text } })
    await run(({ user }) => user.set('said', 'nothing'))
    t.match(await storedIn(plain), { said: 'nothing' })
  }
  const storage = encryptedAs(new LeasingStorage(), { keys: KEYS, plaintext: 'accept' })
  await storage.commit({ changes: [], record: { name: 'record', text, seconds: 60 } })
  t.equal(await storage.recall('record'), text)
})

t.test('values that are not encrypted are taken with plaintext: \'accept\', and encrypted when they change', async (t) => {
  for (const storage of [new MemoryStorage(), slowStorage(2), new LeasingStorage()]) {
    await storage.write({ [USER_KEY]: { name: 'Ada', visits: 1, list: [1.5], nothing: null } })
    const refusing = await startBot(t, encrypted(storage, ENCRYPTION))
    await t.rejects(refusing.run(({ user }) => user.get('name')), { code: 'FST_BOTAS_STATE_CANNOT_DECRYPT', message: /not encrypted, and the option "plaintext" is "refuse"/ })
    const { run } = await startBot(t, encrypted(storage, { ...ENCRYPTION, plaintext: 'accept' }))
    t.strictSame(await run(({ user }) => user.toJSON()), { name: 'Ada', visits: 1, list: [1.5], nothing: null })
    await run(({ user }) => user.update<number>('visits', (n = 0) => n + 1))
    t.match(await storedIn(storage), { name: 'Ada', visits: /^~encrypted:1:2026-11:/, list: [1.5], nothing: null })
    t.equal(await run(({ user }) => user.get('visits')), 2)
  }
})

t.test('a value that another language wrote, and that is not touched, keeps its very text', async (t) => {
  const directory = t.testdir()
  const storage = new FileStorage(directory)
  const file = join(directory, `${encodeURIComponent(USER_KEY)}.json`)
  await storage.write({ [USER_KEY]: {} })
  const { run } = await startBot(t, encrypted(storage, { ...ENCRYPTION, plaintext: 'accept' }))
  await writeFile(file, '{"float":1.0,"long":9007199254740993,"n":1}')
  await run(({ user }) => user.update<number>('n', (n = 0) => n + 1))
  t.match(await readFile(file, 'utf8'), /^\{"float":1\.0,"long":9007199254740993,"n":"~encrypted/)
})

t.test('an update by the storage itself leaves members as they are that it does not change', async (t) => {
  for (const plain of [new MemoryStorage(), slowStorage(2), new LeasingStorage()]) {
    const storage = encryptedAs(plain)
    await storage.write({ key: { a: 1, b: { c: [1] }, __proto__x: null } })
    const before = await storedIn(plain, 'key')
    await storage.update('key', (current) => ({ ...current, a: 2, d: 3 }))
    const after = await storedIn(plain, 'key')
    t.equal(after.b, before.b)
    t.not(after.a, before.a)
    t.strictSame(await storage.read(['key', 'nothing']), { key: { a: 2, b: { c: [1] }, __proto__x: null, d: 3 } })
    await storage.update('key', () => undefined)
    await storage.delete(['key'])
    t.strictSame(await storage.read(['key']), {})
  }
})

for (const [name, make] of Object.entries(onceStorages).filter(([name]) => !name.endsWith('encrypted'))) {
  t.test(`a kept reply opens for its own activity only, and not at all without its key: ${name}`, async (t) => {
    const open = await make(t)
    const storage = open()
    const bot = await startBot(t, encryptedAs(storage), { once: true })
    t.equal((await post(bot.url, message({ id: 'a', text: SECRET }))).status, 200)
    const keyless = await startBot(t, encryptedAs(storage, { keys: { current: 'new', new: Buffer.alloc(32, 3) } }), { once: true })
    const reply = await post(keyless.url, message({ id: 'a', text: SECRET }))
    t.match(reply, { status: 500, body: { code: 'FST_BOTAS_STATE_CANNOT_DECRYPT' } })
    t.notMatch(JSON.stringify([reply.body, keyless.log]), SECRET)
    t.equal((await post(bot.url, message({ id: 'a', text: 'other' }))).text, `{"text":"${SECRET}"}`, 'it is there for who has the key')
  })
}

t.test('a kept reply that is not encrypted is refused, or accepted, as values are', async (t) => {
  const server = newServer()
  const storage = new LeasingStorage(server)
  const plain = await startBot(t, storage, { once: true })
  await post(plain.url, message({ text: 'before' }))
  const refusing = await startBot(t, encrypted(storage, ENCRYPTION), { once: true })
  t.match(await post(refusing.url, message({ text: 'again' })), { status: 500, body: { code: 'FST_BOTAS_STATE_CANNOT_DECRYPT', message: /^the kept reply/ } })
  const accepting = await startBot(t, encrypted(storage, { ...ENCRYPTION, plaintext: 'accept' }), { once: true })
  t.equal((await post(accepting.url, message({ text: 'again' }))).text, '{"text":"before"}')
  const [name] = server.records.keys()
  t.match(await encryptedAs(storage, { ...ENCRYPTION, plaintext: 'accept' }).recall(name as string), 'before')
  t.equal(await encryptedAs(storage).recall('nothing'), undefined)
})

t.test('a key is 32 bytes, a secret KeyObject of these, or their text in Base64 or hexadecimal digits', async (t) => {
  const key = KEYS['2026-11']
  const storage = new MemoryStorage()
  await encrypted(storage, ENCRYPTION).write({ key: { n: 1 } })
  for (const same of [new Uint8Array(key), createSecretKey(key), key.toString('hex'), key.toString('base64'), key.toString('base64url'), `${key.toString('base64')}\n`]) {
    t.strictSame(await encrypted(storage, { keys: { current: '2026-11', '2026-11': same } }).read(['key']), { key: { n: 1 } })
  }
})

t.test('wrong options are told, without a word of a key', async (t) => {
  const { privateKey } = generateKeyPairSync('ed25519')
  const wrong: Array<[options: unknown, message: RegExp]> = [
    [undefined, /"options" must be an object/],
    [{}, /"keys" must be an object with "current" and a key for each id, got undefined/],
    [{ keys: KEYS }, /"keys\.current" must be the id of one of the keys, got undefined/],
    [{ keys: { current: SECRET, ...KEYS } }, /"keys\.current" must be the id of one of the keys, got another string/],
    [{ keys: { current: 'a', a: Buffer.alloc(16) } }, /"keys\.a" must be 32 bytes, .* such as `openssl rand -base64 32` prints, got 16 bytes/],
    [{ keys: { current: 'a', a: SECRET } }, /"keys\.a" must be 32 bytes, .* got a string of 5 bytes/],
    [{ keys: { current: 'a', a: `${SECRET}!` } }, /"keys\.a" must be 32 bytes, .* got a string$/],
    [{ keys: { current: 'a', a: 7 } }, /"keys\.a" must be 32 bytes, .* got a number$/],
    [{ keys: { current: 'a', a: privateKey } }, /"keys\.a" must be 32 bytes, .* got an object$/],
    [{ keys: { current: 'a', a: KEYS['2026-05'], [`${SECRET}:`]: KEYS['2026-11'] } }, /"keys" must be an object with ids of letters, .* got another id/],
    [{ keys: { current: '2026', [KEYS['2026-05'].toString('hex')]: '2026' } }, /"keys" must be an object with ids .* and no keys among them, got another id/],
    [{ keys: { current: '2026', [KEYS['2026-05'].toString('base64url')]: '2026' } }, /got another id/],
    [{ keys: { current: 'a', ['0'.repeat(32)]: 'too short' } }, /"keys\.…" must be 32 bytes/],
    [{ keys: {}, plaintext: 'accept' }, /"keys\.current" must be the id of one of the keys, or left out to encrypt nothing yet, got undefined/],
    [{ keys: { current: undefined, ...KEYS }, plaintext: 'accept' }, /"keys\.current" must be the id of one of the keys, or left out to encrypt nothing yet, got undefined/],
    [{ ...ENCRYPTION, plaintext: KEYS['2026-05'].toString('hex') }, /"plaintext" must be .* got another string/],
    [{ ...ENCRYPTION, [KEYS['2026-05'].toString('hex')]: 1 }, /unknown option "…"/],
    [{ ...ENCRYPTION, plaintext: true }, /"plaintext" must be "accept" or "refuse", got a boolean/],
    [{ ...ENCRYPTION, key: SECRET }, /unknown option "key"; known options: keys, plaintext/]
  ]
  for (const [options, message] of wrong) {
    t.throws(() => encrypted(new MemoryStorage(), options as EncryptionOptions), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message })
    try {
      encrypted(new MemoryStorage(), options as EncryptionOptions)
    } catch (error) {
      t.notMatch((error as Error).message, SECRET)
      t.notMatch((error as Error).message, KEYS['2026-05'].toString('hex'))
      t.notMatch((error as Error).message, KEYS['2026-05'].toString('base64url'))
    }
  }
  t.throws(() => encrypted('memory:' as unknown as Storage, ENCRYPTION), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /"storage" must be a storage object, such as new RedisStorage\(url\) in place of a URL/ })
  t.throws(() => encrypted(encrypted(new MemoryStorage(), ENCRYPTION), ENCRYPTION), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /a storage that is not encrypted, got one that is/ })
})

t.test('a storage that cannot remember activities is refused by its own name, encrypted or not', async (t) => {
  for (const storage of [slowStorage(), new LeasesOnly(newServer())]) {
    const name = storage.constructor.name
    for (const given of [storage, encrypted(storage, ENCRYPTION)]) {
      await t.rejects(buildFastify(t, { storage: given, once: true }, () => {}), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: new RegExp(`; ${name} has not`) })
    }
  }
  const bare = Object.assign(Object.create(null), { read: async () => ({}), write: async () => {}, delete: async () => {} })
  await t.rejects(buildFastify(t, { storage: bare, once: true }, () => {}), { message: /; a storage has not/ })
})

t.test('a text that opens and is no JSON is a corrupt document', async (t) => {
  const storage = new MemoryStorage()
  const secret = { id: '2026-11', secret: createSecretKey(KEYS['2026-11']) }
  const cipher = new Cipher([secret], secret)
  const key = conversationKey(IDENTITY)
  await storage.write({ [key]: { n: JSON.parse(encryptedText(SECRET, key, 'n', cipher)) } satisfies StateDocument })
  const { run } = await startBot(t, encrypted(storage, ENCRYPTION))
  await t.rejects(run(({ conversation }) => conversation.get('n')), { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT', message: /^(?!.*hunter)/ })
})

t.test('of what is forgotten nothing is left in an encrypted storage either', async (t) => {
  t.test('files', async (t) => forgettingSuite(t, async (t) => {
    const directory = t.testdir()
    const everything = async () => (await readdir(directory, { recursive: true })).map(decodeURIComponent)
    return { storage: encrypted(new FileStorage(directory), ENCRYPTION), everything }
  }))
  t.test('Redis', async (t) => forgettingSuite(t, async (t) => {
    const { url } = await startRedis(t)
    const client = new Redis(url)
    t.teardown(() => client.disconnect())
    return { storage: encrypted(new RedisStorage(client), ENCRYPTION), everything: () => everythingIn(client) }
  }))
})
