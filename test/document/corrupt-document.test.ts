import { execFileSync } from 'node:child_process'
import { mkdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { FileStorage } from '../../lib/index.js'
import { CONVERSATION_KEY, USER_KEY, message } from '../helpers/activities.js'
import { buildFastify, post } from '../helpers/build-fastify.js'

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
