import { mkdir, readFile, readdir, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { FileStorage } from '../../lib/index.js'
import { settled } from '../helpers/build-fastify.js'
import { storageSuite } from './storage-suite.js'

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

t.test('only a missing file counts as missing', async (t) => {
  const directory = t.testdir({ 'key.json': {} })
  const storage = new FileStorage(directory)
  await t.rejects(storage.read(['key']), { code: 'EISDIR' })
  await t.rejects(storage.delete(['key']), { code: /EISDIR|EPERM/ })
  await t.rejects(new FileStorage(join(directory, 'key.json')).write({ '': { n: 1 } }).then(() => new FileStorage(join(directory, 'key.json', '.json')).read(['a'])), { code: 'ENOTDIR' })
})

t.test('a write that fails leaves no temporary file', async (t) => {
  const directory = t.testdir()
  await mkdir(join(directory, 'key.json'))
  const storage = new FileStorage(directory)
  await t.rejects(storage.write({ key: { n: 1 } }), { code: /EISDIR|ENOTEMPTY|EEXIST/ })
  t.strictSame(await readdir(directory), ['key.json'])
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
  t.throws(() => new FileStorage('a', { ttl: 0 }), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /"ttl" must be a whole number of seconds .* got 0/ })
  t.throws(() => new FileStorage('a', { tll: 1 } as object), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /"tll"/ })
  t.throws(() => new FileStorage(7 as unknown as string), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /directory/ })
})

t.test('the directory is ./bot-state by default', async (t) => {
  const before = process.cwd()
  process.chdir(t.testdir())
  t.teardown(() => process.chdir(before))
  await new FileStorage().write({ key: { n: 1 } })
  t.strictSame(await readdir('bot-state'), ['key.json'])
})
