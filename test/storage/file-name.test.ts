import { createHash } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { FileStorage } from '../../lib/index.js'
import { message } from '../helpers/activities.js'
import { buildFastify, post } from '../helpers/build-fastify.js'

const names: Array<[key: string, name: string]> = [
  ['plain', 'plain.json'],
  ['AZaz09-._~', 'AZaz09-._~.json'],
  ['msteams/bot/users/u', 'msteams%2Fbot%2Fusers%2Fu.json'],
  ['!\'()*', '%21%27%28%29%2A.json'],
  [' +&=#?:@,;$"<>|\\^`{}[]%', '%20%2B%26%3D%23%3F%3A%40%2C%3B%24%22%3C%3E%7C%5C%5E%60%7B%7D%5B%5D%25.json'],
  ['Zoë', 'Zo%C3%AB.json'],
  ['🤖', '%F0%9F%A4%96.json'],
  ['../../etc/passwd', '..%2F..%2Fetc%2Fpasswd.json'],
  ['..', '...json'],
  ['%2F', '%252F.json'],
  ['29:1abc-DEF_ghi', '29%3A1abc-DEF_ghi.json'],
  ['a'.repeat(250), `${'a'.repeat(250)}.json`]
]

t.test('a key is percent-encoded as RFC 3986 has it', async (t) => {
  for (const [key, name] of names) {
    const directory = t.testdir()
    await new FileStorage(directory).write({ [key]: { n: 1 } })
    t.strictSame(await readdir(directory), [name])
  }
})

t.test('a key too long for a file name keeps a readable beginning and its SHA-256', async (t) => {
  for (const key of ['a'.repeat(251), 'a'.repeat(3000), `${'a'.repeat(183)}🤖`.padEnd(3000, 'b'), 'é'.repeat(1000), `channel/bot/${'x'.repeat(3000)}`]) {
    const directory = t.testdir()
    const storage = new FileStorage(directory)
    await storage.write({ [key]: { n: 1 } })
    const [name] = await readdir(directory) as [string]
    const [prefix, hash] = name.split('=') as [string, string]
    t.equal(hash, `${createHash('sha256').update(key).digest('hex')}.json`)
    t.ok(prefix.length > 100 && name.length <= 255)
    t.ok(encodeURIComponent(key).startsWith(prefix))
    t.notMatch(prefix, /%.?$/, 'no escape is cut')
    t.strictSame(await storage.read([key]), { [key]: { n: 1 } })
  }
})

t.test('keys that begin alike have different files', async (t) => {
  const storage = new FileStorage(t.testdir())
  const [one, two] = ['a'.repeat(300), `${'a'.repeat(300)}b`] as [string, string]
  await storage.write({ [one]: { n: 1 }, [two]: { n: 2 } })
  t.strictSame(await storage.read([one, two]), { [one]: { n: 1 }, [two]: { n: 2 } })
})

t.test('a key that UTF-8 cannot encode is refused', async (t) => {
  const storage = new FileStorage(t.testdir())
  await t.rejects(storage.read(['\ud800']), { code: 'FST_BOTAS_STATE_INVALID_ID', message: /surrogate/ })
})

t.test('an id with path traversal stays inside the directory', async (t) => {
  const root = t.testdir()
  const directory = join(root, 'state')
  const { url } = await buildFastify(t, { storage: new FileStorage(directory), flush: 'onSend' }, (app) => {
    app.post('/', async ({ state }) => { state.conversation.set('n', 1) })
  })
  for (const conversation of ['../../../etc/passwd', '..', '/etc/passwd', '..\\..\\windows']) {
    t.equal((await post(url, message({ conversation }))).status, 200)
  }
  t.strictSame(await readdir(root), ['state'])
  t.equal((await readdir(directory)).length, 4)
})
