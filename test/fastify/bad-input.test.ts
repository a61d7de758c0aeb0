import t from 'tap'
import { FileStorage } from '../../lib/index.js'
import { execFileSync } from 'node:child_process'
import { mkdir, readFile, readdir, rm, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CONVERSATION_KEY, USER_KEY, message } from '../helpers/activities.js'
import { buildFastify, post } from '../helpers/build-fastify.js'

t.test('a bad activity is a 4xx that names the field, and stores nothing', async (t) => {
  const directory = join(t.testdir(), 'state')
  const { url } = await buildFastify(t, { storage: new FileStorage(directory), flush: 'onSend' }, (app) => {
    app.post('/', async ({ state }) => {
      state.conversation.set('n', 1)
      state.user.set('n', 1)
      return {}
    })
  }, { bodyLimit: 2 ** 23 })

  const noActivity: unknown[] = [{}, [], null, 'text', 7, [message()], { channelId: 'test' }, { recipient: { id: 'bot' } },
    { ...message(), channelId: null }, { ...message(), channelId: '' }, { ...message(), recipient: 'bot' }, { ...message(), recipient: { id: '' } }]
  for (const body of noActivity) {
    t.match(await post(url, body), { status: 400, body: { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: /channelId|recipient\.id/ } }, JSON.stringify(body))
  }
  const half: Array<[unknown, RegExp]> = [
    [{ ...message(), conversation: undefined }, /conversation\.id/],
    [{ ...message(), conversation: {} }, /conversation\.id/],
    [{ ...message(), conversation: { id: '' } }, /conversation\.id/],
    [{ ...message(), from: null }, /from\.id/],
    [{ ...message(), from: { id: '' } }, /from\.id/]
  ]
  for (const [body, field] of half) {
    t.match(await post(url, body), { status: 400, body: { code: 'FST_BOTAS_STATE_NOT_A_TURN', message: field } })
  }
  const ids: unknown[] = [7, true, ['a'], { id: 'a' }, 'x'.repeat(2 ** 21), 'a\u0000', 'line\nbreak', '\u009f']
  const fields: Array<[(id: unknown) => unknown, RegExp]> = [
    [(id) => ({ ...message(), channelId: id }), /"channelId"/],
    [(id) => ({ ...message(), recipient: { id } }), /"recipient\.id"/],
    [(id) => ({ ...message(), conversation: { id } }), /"conversation\.id"/],
    [(id) => ({ ...message(), from: { id } }), /"from\.id"/]
  ]
  for (const [body, field] of fields) {
    for (const id of ids) {
      const { status, body: answer } = await post(url, body(id))
      t.equal(status, 400)
      t.match(answer, { code: 'FST_BOTAS_STATE_INVALID_ID', message: field })
    }
    // As the escape that JSON has for it, since UTF-8 has none.
    const lone = JSON.stringify(body('LONE')).replace('LONE', '\\ud800')
    const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: lone })
    t.equal(response.status, 400)
    t.match(await response.json(), { code: 'FST_BOTAS_STATE_INVALID_ID', message: field })
  }
  for (const body of ['', '{', 'nonsense']) {
    const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    t.equal(response.status, 400)
  }
  t.equal((await fetch(url, { method: 'POST', body: JSON.stringify(message()) })).status, 400, 'plain text')
  t.equal((await fetch(url, { method: 'POST' })).status, 400, 'no body at all')

  await t.rejects(readdir(directory), { code: 'ENOENT' })
  t.equal((await post(url, message())).status, 200, 'and the server is well')
  t.equal((await readdir(directory)).length, 2)
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
  const corrupt = { status: 500, body: { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT', message: /users\/user-1" is not a complete JSON object/ } }
  const short = '{"name":"hunter2","n":1}'
  const conversation = join(directory, `${encodeURIComponent(CONVERSATION_KEY)}.json`)
  for (const text of [
    long.slice(0, -1), `x${long}`, `[${long}]`, long.slice(0, 50_000), long.replace('1000,', '1000;'),
    short.slice(0, -1), short.replace(',', ';'), short.replace('1', '01'), '', '{"name":"hunter2","list":[1,}'
  ]) {
    await writeFile(path, text)
    t.equal((await post(url, message({ text: 'neither' }))).status, 200)
    const touched = await post(url, message({ text: 'touch' }))
    if (text.startsWith('[')) t.match(touched.body.message, /is an array, not a JSON object/)
    else t.match(touched, corrupt, text.slice(0, 30))
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
