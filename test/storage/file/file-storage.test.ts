import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { chmod, lstat, readFile, readdir, stat, symlink, unlink, utimes, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import botasState, { FileStorage, checkDocuments } from '../../../lib/index.js'
import { fileName } from '../../../lib/storage/file-name.js'
import { message } from '../../helpers/activities.js'
import { listen, post, settled } from '../../helpers/build-fastify.js'
import { storageSuite } from '../../helpers/storage-suite.js'

/** Makes a directory the working directory of a test. */
function enter (t: Test, directory: string): void {
  const before = process.cwd()
  t.teardown(() => process.chdir(before))
  process.chdir(directory)
}

t.test('what every storage promises', async (t) => storageSuite(t, (t, options) => new FileStorage(t.testdir(), options)))

t.test('a directory is made by the first write and not before', async (t) => {
  const directory = join(t.testdir(), 'a', 'b')
  const storage = new FileStorage(directory)
  t.strictSame(await storage.read(['key']), {})
  await storage.delete(['key'])
  await storage.update('key', () => undefined)
  await t.rejects(readdir(directory), { code: 'ENOENT' })
  await storage.write({ key: { n: 1 } })
  t.strictSame(await readdir(directory), ['key.json'])
})

t.test('a document is compact JSON in UTF-8 with nothing beside it', async (t) => {
  const directory = t.testdir()
  const storage = new FileStorage(directory)
  await storage.write({ key: { name: 'Zoë 🤖', list: [1, 2] } })
  await storage.update('key', (current) => ({ ...current, n: 1 }))
  t.equal(await readFile(join(directory, 'key.json'), 'utf8'), '{"name":"Zoë 🤖","list":[1,2],"n":1}')
  t.strictSame(await readdir(directory), ['key.json'])
})

t.test('two storages on one directory do not undo each other\'s updates', async (t) => {
  const directory = t.testdir()
  const storages = [new FileStorage(directory), new FileStorage(directory)]
  await Promise.all(Array.from({ length: 40 }, (_, index) =>
    storages[index % 2]?.update('key', (current) => ({ n: (current?.n as number ?? 0) + 1 }))))
  t.strictSame(await storages[0]?.read(['key']), { key: { n: 40 } })
})

t.test('a file that is no document fails to load and to change, and stays as it is', async (t) => {
  const directory = t.testdir()
  const storage = new FileStorage(directory)
  const broken: Record<string, Buffer> = {
    truncated: Buffer.from('{"secret":"hunter2","n":'),
    empty: Buffer.from(''),
    array: Buffer.from('["hunter2"]'),
    text: Buffer.from('"hunter2"'),
    null: Buffer.from('null'),
    latin1: Buffer.from('{"secret":"hunter\xe9"}', 'latin1')
  }
  for (const [key, bytes] of Object.entries(broken)) {
    const path = join(directory, `${key}.json`)
    await writeFile(path, bytes)
    const corrupt = { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT', statusCode: 500, message: new RegExp(`"${key}"`) }
    const error = await storage.read([key]).then(() => t.fail('loaded'), (error) => error)
    t.match(error, corrupt)
    t.notMatch(error.stack, /hunter/, 'the error does not quote the file')
    await t.rejects(storage.update(key, () => ({ n: 1 })), corrupt)
    t.same(await readFile(path), bytes)
  }
})

t.test('a byte order mark is no damage', async (t) => {
  const directory = t.testdir({ 'key.json': '\uFEFF{"n": 1.0, "m": 1}' })
  const storage = new FileStorage(directory)
  t.strictSame(await storage.read(['key']), { key: { n: 1, m: 1 } })
  await storage.update('key', (current) => ({ ...current, m: 2, undefined }))
  t.equal(await readFile(join(directory, 'key.json'), 'utf8'), '{"n":1.0,"m":2}')
})

t.test('what JSON cannot hold is refused in place of a document of which other members keep their text', async (t) => {
  const text = '{"n": 1.0}'
  const directory = t.testdir({ 'key.json': text })
  const storage = new FileStorage(directory)
  for (const document of [new Map([['n', 1]]), new Headers({ n: '1' }), new Date(), Buffer.from('{}')]) {
    await t.rejects(storage.update('key', () => document as unknown as Record<string, unknown>), { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE' })
  }
  t.equal(await readFile(join(directory, 'key.json'), 'utf8'), text)
})

t.test('only a missing file counts as missing', async (t) => {
  const directory = t.testdir({ 'key.json': {} })
  const storage = new FileStorage(directory)
  await t.rejects(storage.read(['key']), { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT', message: /"key" is not a regular file/ })
  await t.rejects(storage.delete(['key']), { code: /EISDIR|EPERM/ })
  await t.rejects(new FileStorage(join(directory, 'key.json')).write({ '': { n: 1 } }).then(() => new FileStorage(join(directory, 'key.json', '.json')).read(['a'])), { code: 'ENOTDIR' })
})

t.test('a write that fails leaves no temporary file', async (t) => {
  const directory = t.testdir()
  const storage = new FileStorage(directory)
  const update = storage.update('key', () => {
    mkdirSync(join(directory, 'key.json'))
    return { n: 1 }
  })
  await t.rejects(update, { code: /EISDIR|ENOTEMPTY|EEXIST/ })
  t.strictSame(await readdir(directory), ['key.json'])
})

t.test('what is no regular file is refused at once, and stays as it is', async (t) => {
  const directory = t.testdir({ 'directory.json': { inside: '' } })
  const pathOf = (key: string) => join(directory, `${key}.json`)
  execFileSync('mkfifo', [pathOf('fifo')])
  await utimes(pathOf('fifo'), 1, 1)
  // The path of a socket may have no more than 107 bytes.
  enter(t, directory)
  const server = createServer().listen('socket.json')
  await once(server, 'listening')
  t.teardown(() => server.close())
  await symlink('/dev/zero', pathOf('device'))
  await symlink(pathOf('fifo'), pathOf('link'))
  const before = await readdir(directory)
  for (const options of [{}, { ttl: 3600 }]) {
    const storage = new FileStorage(directory, options)
    t.teardown(() => storage.close())
    for (const key of ['directory', 'fifo', 'socket', 'device', 'link']) {
      const corrupt = { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT', statusCode: 500, message: new RegExp(`"${key}" is not a regular file`) }
      await t.rejects(storage.read([key]), corrupt)
      await t.rejects(storage.update(key, () => ({ n: 1 })), corrupt)
      await t.rejects(storage.update(key, () => undefined), corrupt)
      await t.rejects(storage.write({ [key]: { n: 1 } }), corrupt)
    }
    t.strictSame(await readdir(directory), before)
  }
  t.ok((await lstat(pathOf('fifo'))).isFIFO())
})

t.test('a document keeps the mode of its file, whatever the umask, and a new one has what the umask leaves', async (t) => {
  const directory = t.testdir()
  const storage = new FileStorage(directory)
  const modeOf = async (key: string) => ((await stat(join(directory, `${key}.json`))).mode & 0o7777).toString(8)
  const before = process.umask(0o027)
  t.teardown(() => process.umask(before))
  await storage.write({ key: { n: 1 } })
  t.equal(await modeOf('key'), '640')
  for (const umask of [0o000, 0o022, 0o077]) {
    process.umask(umask)
    for (const mode of [0o600, 0o640, 0o666, 0o440, 0o755, 0o2770]) {
      await chmod(join(directory, 'key.json'), mode)
      await storage.update('key', (current) => ({ n: current?.n as number + 1 }))
      t.equal(await modeOf('key'), mode.toString(8), 'updated')
      await storage.write({ key: { n: 0 } })
      t.equal(await modeOf('key'), mode.toString(8), 'written')
    }
    await storage.write({ [`new-${umask}`]: { n: 1 } })
    t.equal(await modeOf(`new-${umask}`), (0o666 & ~umask).toString(8))
  }
})

t.test('a directory with several names is one directory, also if it is not there yet', async (t) => {
  const root = t.testdir({ there: { inside: {} } })
  await symlink('there', join(root, 'link'))
  await symlink('not-yet', join(root, 'dangling'))
  await symlink('dangling', join(root, 'twice'))
  enter(t, root)
  const names = [
    ['there', 'link', './link/', 'link/inside/..', join(root, 'link')],
    ['there/inside', 'link/inside'],
    ['there/a/b', 'link/a/b'],
    ['not-yet', 'dangling', 'twice'],
    ['not-yet/a', 'dangling/a', 'twice/a']
  ]
  for (const [first, ...others] of names as Array<[string, ...string[]]>) {
    const storages = [first, ...others].map((name) => new FileStorage(name))
    const count = (current: Record<string, unknown> | undefined) => ({ n: (current?.n as number ?? 0) + 1 })
    await Promise.all(Array.from({ length: 20 }, () => storages.map((storage) => storage.update('key', count))).flat())
    t.strictSame(JSON.parse(await readFile(join(root, first, 'key.json'), 'utf8')), { n: storages.length * 20 }, first)
  }
})

t.test('calls keep their order from the first one on', async (t) => {
  const storage = new FileStorage(join(t.testdir(), 'a', 'b'))
  const writes = Array.from({ length: 20 }, (_, n) => storage.write({ key: { n } }))
  t.strictSame(await storage.read(['key']), { key: { n: 19 } })
  await Promise.all(writes)
})

t.test('a directory whose path leads nowhere can be mended', async (t) => {
  const root = t.testdir()
  const directory = join(root, 'loop')
  await symlink('loop', directory)
  const storage = new FileStorage(directory, { ttl: 1 })
  await t.rejects(storage.read(['key']), { code: 'ELOOP' })
  await t.rejects(storage.write({ key: { n: 1 } }), { code: 'ELOOP' })
  await storage.close()
  await unlink(directory)
  await storage.write({ key: { n: 1 } })
  t.strictSame(await storage.read(['key']), { key: { n: 1 } })
  await storage.close()
})

t.test('temporary files of a process that was killed are removed by the next one', async (t) => {
  const directory = t.testdir({ '=0b7c-1.tmp': '{"n":', 'key.json': '{"n":1}', 'a=b.tmp': 'not ours' })
  const storage = new FileStorage(directory)
  t.strictSame(await storage.read(['key']), { key: { n: 1 } })
  await storage.close()
  t.strictSame((await readdir(directory)).sort(), ['a=b.tmp', 'key.json'])
})

t.test('a second storage on the directory leaves the files alone that the first one is writing', async (t) => {
  const directory = t.testdir()
  const storage = new FileStorage(directory)
  const writes = Promise.all(Array.from({ length: 50 }, (_, n) => storage.write({ [`key-${n}`]: { n } })))
  for (let n = 0; n < 10; n++) {
    const other = new FileStorage(directory)
    await other.read(['key-1'])
    await other.close()
  }
  await writes
  t.equal((await readdir(directory)).length, 50)
})

t.test('an expired file is removed when it is met, and the others now and then', async (t) => {
  const directory = t.testdir()
  const storage = new FileStorage(directory, { ttl: 3600 })
  t.teardown(() => storage.close())
  await storage.write({ 'met/by a read': { n: 1 }, 'met/by an update': { n: 1 }, 'not met': { n: 1 }, fresh: { n: 1 } })
  const names = await readdir(directory)
  const anHourAgo = Date.now() / 1000 - 3601
  for (const name of names.filter((name) => name !== 'fresh.json')) await utimes(join(directory, name), anHourAgo, anHourAgo)
  await storage.read(['met/by a read'])
  await storage.update('met/by an update', () => undefined)
  t.strictSame((await readdir(directory)).sort(), ['fresh.json', 'not%20met.json'])
  await storage.prune()
  t.strictSame(await readdir(directory), ['fresh.json'])
})

t.test('a dry run leaves alone what is expired, and what a killed process left, and takes neither for a document', async (t) => {
  const key = 'test/bot/users/ada'
  const directory = t.testdir({ [fileName(key)]: '[]', '=1-1.tmp': '{}', '=1-1.save': '[]' })
  await utimes(join(directory, fileName(key)), 1, 1)
  const before = await readdir(directory)
  t.strictSame(await checkDocuments(new FileStorage(directory, { ttl: 3600 }), [key], {}), [])
  t.strictSame(await readdir(directory), before)
  t.match(await checkDocuments(new FileStorage(directory), [key], {}), [{ key, code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT' }])
})

t.test('old files are removed by themselves, if they are documents', async (t) => {
  const directory = t.testdir({ 'notes.txt': 'not ours', 'no document!.json': '{}' })
  const storage = new FileStorage(directory, { ttl: 1 })
  t.teardown(() => storage.close())
  await storage.write({ key: { n: 1 }, ['long'.repeat(100)]: { n: 1 } })
  t.equal((await readdir(directory)).length, 4)
  await settled(async () => (await readdir(directory)).length === 2)
  t.strictSame((await readdir(directory)).sort(), ['no document!.json', 'notes.txt'])
})

t.test('what is no file is left alone, and does not keep the others from being removed', async (t) => {
  const directory = t.testdir({ 'a.json': { 'b.json': '{}' } })
  const storage = new FileStorage(directory, { ttl: 3600 })
  t.teardown(() => storage.close())
  await storage.write({ old: { n: 1 } })
  for (const name of await readdir(directory)) await utimes(join(directory, name), 1, 1)
  await storage.prune()
  t.strictSame(await readdir(directory), ['a.json'])
})

t.test('pruning waits for a save that is under way, and keeps what it saved', async (t) => {
  const directory = t.testdir()
  const storage = new FileStorage(directory, { ttl: 3600 })
  t.teardown(() => storage.close())
  const path = join(directory, 'key.json')
  for (let round = 0; round < 50; round++) {
    await storage.write({ key: { n: 0 } })
    await utimes(path, 1, 1)
    await Promise.all([storage.prune(), storage.write({ key: { round } }), storage.prune(), storage.read(['key'])])
    t.strictSame(await storage.read(['key']), { key: { round } })
  }
})

t.test('without a time to live nothing is removed, however old', async (t) => {
  const directory = t.testdir({ 'key.json': '{"n":1}' })
  await utimes(join(directory, 'key.json'), 1, 1)
  const storage = new FileStorage(directory)
  await storage.prune()
  t.strictSame(await storage.read(['key']), { key: { n: 1 } })
  await new FileStorage(join(directory, 'not there'), { ttl: 1 }).prune()
})

t.test('a directory that is no path is refused', async (t) => {
  t.throws(() => new FileStorage(''), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /directory/ })
  for (const url of ['redis://:hunter2@localhost', 'file:./bot-state', 'file:///bot-state', 'memory:']) {
    t.throws(() => new FileStorage(url), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /"directory" must be a path, got "\w+:[/]*…?"$/ })
  }
  t.throws(() => new FileStorage('a', { ttl: 0 }), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /"ttl" must be a whole number of seconds .* got 0/ })
  t.throws(() => new FileStorage('a', { tll: 1 } as object), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /"tll"/ })
  t.throws(() => new FileStorage(7 as unknown as string), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /directory/ })
})

t.test('the directory is ./bot-state by default', async (t) => {
  enter(t, t.testdir())
  await new FileStorage().write({ key: { n: 1 } })
  t.strictSame(await readdir('bot-state'), ['key.json'])
})

t.test('two storages on one directory find each other\'s writes', async (t) => {
  const directory = t.testdir()
  const app = Fastify({ forceCloseConnections: true })
  t.teardown(() => app.close())
  for (const name of ['one', 'two']) {
    app.register(async (scope) => {
      await scope.register(botasState, { storage: `file:${directory}` })
      scope.post(`/${name}`, async ({ state }) => {
        const n = (state.conversation.get<number>('n') ?? 0) + 1
        state.conversation.set('n', n)
        return { n }
      })
    })
  }
  const { url } = await listen(app)
  for (let n = 1; n <= 20; n++) {
    t.strictSame((await post(`${url}/${n % 2 === 0 ? 'one' : 'two'}`, message())).body, { n })
  }
  await app.close()
})
