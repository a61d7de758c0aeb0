import { execFileSync } from 'node:child_process'
import { mkdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { FileStorage, type Storage } from '../../lib/index.js'
import { RedisStorage } from '../../lib/storage/redis/redis-storage.js'
import { CONVERSATION_KEY, USER_KEY, message } from '../helpers/activities.js'
import { buildFastify, post } from '../helpers/build-fastify.js'
import { startRedis } from '../helpers/redis-server.js'

t.test('a stored document that is no object fails the turn that touches it and is not overwritten', async (t) => {
  for (const document of [['hunter2'], 'hunter2', null]) {
    const written: unknown[] = []
    const storage = {
      read: async () => ({ [CONVERSATION_KEY]: document }),
      write: async (changes: unknown) => { written.push(changes) },
      delete: async (keys: unknown) => { written.push(keys) }
    }
    const { url } = await buildFastify(t, { storage }, (app) => app.post('/', async ({ state }) => { state.conversation.set('n', 1) }))
    const { status, body } = await post(url, message())
    t.equal(status, 500)
    t.match(body, { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT', message: CONVERSATION_KEY })
    t.notMatch(body.message, /hunter/)
    t.strictSame(written, [])
  }
})

t.test('a corrupt document fails every turn that touches it, stays as it is, and hinders nothing else', async (t) => {
  const directory = t.testdir()
  const path = join(directory, `${encodeURIComponent(USER_KEY)}.json`)
  const long = JSON.stringify({ name: 'hunter2', list: Array.from({ length: 20_000 }, (_, n) => n) })
  const { url } = await buildFastify(t, { storage: new FileStorage(directory), flush: 'onSend' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation, user } }) => {
      conversation.set('last', text)
      if (text === 'touch') return { name: user.get('name') }
      try {
        if (text === 'swallow') user.set('name', 'new')
      } catch {}
      if (text === 'clear') user.clear()
      return {}
    })
  })
  const incomplete = /users\/user-1" is not a complete JSON object/
  const short = '{"name":"hunter2","n":1}'
  const conversation = join(directory, `${encodeURIComponent(CONVERSATION_KEY)}.json`)
  const texts: Array<[text: string, flaw?: RegExp]> = [
    [long.slice(0, -1)], [`x${long}`], [`[${long}]`, /is an array, not a JSON object/], [long.slice(0, 50_000)], [long.replace('1000,', '1000;')],
    [short.slice(0, -1)], [short.replace(',', ';')], [short.replace('1', '01')], [''], ['{"name":"hunter2","list":[1,}']
  ]
  for (const [text, flaw = incomplete] of texts) {
    await writeFile(path, text)
    t.equal((await post(url, message({ text: 'neither' }))).status, 200)
    const touched = await post(url, message({ text: 'touch' }))
    t.match(touched, { status: 500, body: { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT', message: flaw } }, text.slice(0, 30))
    t.notMatch(touched.text, /hunter/)
    t.equal((await post(url, message({ text: 'swallow' }))).status, 200)
    t.equal(await readFile(path, 'utf8'), text)
    t.equal(await readFile(conversation, 'utf8'), '{"last":"neither"}', 'nothing of the turns that touched it was saved')
    t.equal((await post(url, message({ text: 'clear' }))).status, 200)
    await t.rejects(readFile(path), { code: 'ENOENT' })
  }

  await writeFile(path, '{"name":"hunter2\\x","n":1}')
  const touched = await post(url, message({ text: 'touch' }))
  t.match(touched, { status: 500, body: { message: /users\/user-1" is not valid JSON in its member "name"/ } })
  t.notMatch(touched.text, /hunter/)
  await rm(path)

  await mkdir(path)
  t.equal((await post(url, message({ text: 'neither' }))).status, 200)
  t.match(await post(url, message({ text: 'touch' })), { status: 500, body: { message: /users\/user-1" is not a regular file/ } })
  await rmdir(path)
  execFileSync('mkfifo', [path])
  t.match(await post(url, message({ text: 'touch' })), { status: 500, body: { message: /users\/user-1" is not a regular file/ } })
  t.equal((await post(url, message({ text: 'clear' }))).status, 200)
  await t.rejects(readFile(path), { code: 'ENOENT' })

  await writeFile(path, `\uFEFF ${long}\n`)
  t.match(await post(url, message({ text: 'touch' })), { status: 200, body: { name: 'hunter2' } })
})

/** A storage whose document of the user is corrupt, and what it holds under a key. */
interface Corrupted {
  storage: Storage
  stored: (key: string) => Promise<unknown>
}

/** Only `read` differs, so that turns ask it by the public methods. */
class OwnFileStorage extends FileStorage {
  override async read (...args: Parameters<FileStorage['read']>): ReturnType<FileStorage['read']> {
    return super.read(...args)
  }
}

function ownStorage (withUpdate: boolean): Corrupted {
  const documents = new Map<string, unknown>([[USER_KEY, ['hunter2']]])
  const storage: Storage = {
    read: async (keys) => Object.fromEntries(keys.flatMap((key) => documents.has(key) ? [[key, documents.get(key)]] : [])),
    write: async (changes) => { for (const [key, document] of Object.entries(changes)) documents.set(key, document) },
    delete: async (keys) => { for (const key of keys) documents.delete(key) }
  }
  if (withUpdate) {
    storage.update = async (key, change) => {
      const next = change(documents.get(key) as object | undefined as never)
      if (next === undefined) documents.delete(key)
      else documents.set(key, next)
    }
  }
  return { storage, stored: async (key) => documents.get(key) }
}

async function corruptFile (t: Test, Storage: typeof FileStorage): Promise<Corrupted> {
  const directory = t.testdir()
  const pathOf = (key: string) => join(directory, `${encodeURIComponent(key)}.json`)
  await writeFile(pathOf(USER_KEY), '["hunter2"]')
  const stored = (key: string) => readFile(pathOf(key), 'utf8').then(JSON.parse, () => undefined)
  return { storage: new Storage(directory), stored }
}

async function corruptRedis (t: Test, corrupt: (client: Redis) => Promise<unknown>): Promise<Corrupted> {
  const client = new Redis((await startRedis(t)).url)
  t.teardown(() => client.disconnect())
  await corrupt(client)
  const stored = async (key: string) => {
    if (await client.type(`botas:${key}`) === 'hash') return client.hgetall(`botas:${key}`)
    const text = await client.get(`botas:${key}`)
    return text === null ? undefined : JSON.parse(text)
  }
  return { storage: new RedisStorage(client), stored }
}

const corrupted: Record<string, (t: Test) => Corrupted | Promise<Corrupted>> = {
  FileStorage: (t) => corruptFile(t, FileStorage),
  'a class that extends FileStorage': (t) => corruptFile(t, OwnFileStorage),
  RedisStorage: (t) => corruptRedis(t, (client) => client.set(`botas:${USER_KEY}`, '["hunter2"]')),
  'RedisStorage, where the key is a hash': (t) => corruptRedis(t, (client) => client.hset(`botas:${USER_KEY}`, { n: 'hunter2' })),
  'a storage of one\'s own without update': () => ownStorage(false),
  'a storage of one\'s own with update': () => ownStorage(true)
}

for (const [title, corrupt] of Object.entries(corrupted)) {
  t.test(`a corrupt document hinders neither the other scope nor what removes it: ${title}`, async (t) => {
    const { storage, stored } = await corrupt(t)
    const before = await stored(USER_KEY)
    t.ok(before)
    const { url, app, log } = await buildFastify(t, { storage, flush: 'onSend' }, (app) => {
      app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation, user } }) => {
        conversation.set('last', text)
        if (text === 'touch') user.get('n')
        try {
          if (text === 'swallow') user.update('n', () => 1)
        } catch {}
        if (text === 'replace') user.clear()
        if (text === 'replace') user.set('n', 1)
        if (text === 'remove') user.clear()
        return {}
      })
    })
    t.equal((await post(url, message({ text: 'neither' }))).status, 200)
    t.strictSame(await stored(CONVERSATION_KEY), { last: 'neither' })
    t.match(await post(url, message({ text: 'touch' })), { status: 500, body: { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT', message: USER_KEY } })
    log.length = 0
    t.equal((await post(url, message({ text: 'swallow' }))).status, 200)
    t.match(log, [{ msg: 'the state of a turn was not saved', code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT' }])
    t.notMatch(JSON.stringify(log), /hunter2/)
    await t.rejects(app.botasState.run({ channelId: 'test', botId: 'bot', userId: 'user-1' }, ({ user }) => {
      try {
        user.set('n', 1)
      } catch {}
    }), { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT' })
    t.strictSame(await stored(CONVERSATION_KEY), { last: 'neither' })
    t.strictSame(await stored(USER_KEY), before)
    t.equal((await post(url, message({ text: 'replace' }))).status, 200)
    t.strictSame([await stored(CONVERSATION_KEY), await stored(USER_KEY)], [{ last: 'replace' }, { n: 1 }])

    const again = await corrupt(t)
    await again.storage.close?.()
    const second = await buildFastify(t, { storage: again.storage }, (app) => app.post('/', async ({ state }) => { state.deleteUserState() }))
    t.equal((await post(second.url, message())).status, 200)
    await second.app.close()
    t.equal(await again.stored(USER_KEY), undefined)
  })
}
