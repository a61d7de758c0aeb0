import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { bot, output, snippet } from '../helpers/pages.js'
import { startPostgres } from '../helpers/postgres-server.js'
import { startRedis } from '../helpers/redis-server.js'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))

/** Waits until what was answered is saved. */
const SAVED = "await app.botasState.run({ channelId: 'test', botId: 'bot', userId: 'u' }, () => {})"

/** A block whose first lines import what the program around it has imported already, or has to import. */
function importing (name: string, before = ''): { before: string, code: string } {
  const lines = snippet(name).split('\n')
  const imports = lines.filter((line) => line.startsWith('import ')).map((line) => line.replace('botasState, ', ''))
  return { before: `${imports.join('\n')}\n${before}`, code: lines.filter((line) => !line.startsWith('import ')).join('\n') }
}

t.test('a document of an older version is upgraded, checked and stored', async (t) => {
  const { before, code } = importing('documents', `
    import { MemoryStorage } from 'fastify-botas-state'
    const storage = new MemoryStorage()
    await storage.write({ 'test/bot/users/u': { name: 'Ada Lovelace', visits: 1 }, 'test/bot/users/v': { schemaVersion: 3 } })`)
  t.equal(await output(t, bot({
    before,
    routes: `${code}
      app.post('/api/messages', async ({ body, state: { user } }) => {
        if (body.text === 'spoil') user.set('first', 7)
        return { first: user.get('first'), visits: user.update('visits', (n = 0) => n + 1) }
      })`,
    after: `
      const talk = (text, id = 'u') => say({ ...${JSON.stringify({ type: 'message', channelId: 'test', recipient: { id: 'bot' } })}, text, from: { id } })
      await show(talk('Hi').then(({ body }) => body))
      ${SAVED}
      await show(stored('users', 'u'))
      await show(talk('Hi', 'v').then(({ statusCode, body }) => [statusCode, JSON.parse(body).code]), stored('users', 'v'))
      await talk('spoil')
      ${SAVED}
      await show(stored('users', 'u'))`
  })), [
    '"{\\"first\\":\\"Ada\\",\\"visits\\":2}"',
    '{"visits":2,"first":"Ada","last":"Lovelace","schemaVersion":2}',
    '[500,"FST_BOTAS_STATE_NEWER_DOCUMENT"]',
    '{"schemaVersion":3}',
    '{"visits":2,"first":"Ada","last":"Lovelace","schemaVersion":2}\n'
  ].join('\n'))
})

t.test('what is encrypted is not readable in the storage, and what was stored before is taken', async (t) => {
  const { before, code } = importing('encrypted', `
    import { MemoryStorage } from 'fastify-botas-state'
    process.env.STATE_KEY = ${JSON.stringify(Buffer.alloc(32, 7).toString('base64'))}
    const storage = new MemoryStorage()
    await storage.write({ 'test/bot/users/u': { name: 'Ada' } })`)
  t.match(await output(t, bot({
    before,
    routes: `${code.replace('STATE_KEY }', "STATE_KEY }, plaintext: 'accept'")}\napp.post('/api/messages', async ({ state: { user } }) => { user.set('text', 'secret'); return user.toJSON() })`,
    after: `console.log((await say()).body)
      console.log(JSON.stringify(await storage.read(['test/bot/users/u'])))`
  })), /^\{"name":"Ada","text":"secret"\}\n\{"test\/bot\/users\/u":\{"name":"Ada","text":"~encrypted:1:2026-11:[\w-]+"\}\}\n$/)
})

t.test('the format that the page gives for other languages is the one of the values', async (t) => {
  const [prefix, , data] = snippet('encrypted-format').trim().split(/(<key id>):/)
  t.equal(prefix, '~encrypted:1:')
  t.match(data, /^<Base64url, without padding, of nonce \(12 bytes\), ciphertext and tag \(16 bytes\)>$/)
})

t.test('a user is forgotten, and what a conversation knows with the conversation', async (t) => {
  t.equal(await output(t, bot({
    before: 'const [channelId, botId, conversationId, userId] = ["test", "bot", "c", "u"]',
    routes: 'await register()',
    after: `
      await app.botasState.storage.write({ 'test/bot/users/u': { name: 'Ada' }, 'test/bot/conversations/c': { n: 1 }, 'test/bot/users/v': { n: 1 } })
      ${snippet('forget')}
      await show(app.botasState.storage.read(['test/bot/users/u', 'test/bot/conversations/c', 'test/bot/users/v']))`
  })), '{"test/bot/users/v":{"n":1}}\n')
})

t.test('a dry run says which documents would fail, and ends with 1', async (t) => {
  const { before, code } = importing('check', `
    import { MemoryStorage } from 'fastify-botas-state'
    const storage = new MemoryStorage()
    await storage.write({ 'test/bot/users/u': { schemaVersion: 7 }, 'test/bot/users/v': {} })
    const keys = ['test/bot/users/u', 'test/bot/users/v', 'test/bot/users/w']
    const documents = { user: { version: { key: 'schemaVersion' } } }`)
  const { code: status, stdout } = await output(t, bot({ before, routes: code })).catch((error) => error)
  t.equal(status, 1)
  t.match(stdout, /^test\/bot\/users\/u FST_BOTAS_STATE_NEWER_DOCUMENT .* has version 7, [^\n]+\n$/)
})

t.test('the keys of documents are listed as the page says', async (t) => {
  const [redis, postgres] = await Promise.all([startRedis(t), startPostgres(t)])
  t.equal(await output(t, bot({
    before: `
      import { readdir } from 'node:fs/promises'
      import { FileStorage } from 'fastify-botas-state'
      import { PostgresStorage } from 'fastify-botas-state/postgres'
      import { RedisStorage } from 'fastify-botas-state/redis'
      import { Redis } from 'ioredis'
      import pg from 'pg'
      const redis = new Redis(${JSON.stringify(redis.url)})
      const pool = new pg.Pool({ connectionString: ${JSON.stringify(postgres.url)} })
      for (const storage of [new RedisStorage(redis), new PostgresStorage(pool), new FileStorage('./bot-state')]) {
        const app = Fastify()
        await app.register(botasState, { storage, once: true, concurrency: 'queue' })
        await app.botasState.run({ channelId: 'test', botId: 'bot', userId: 'Zoë/1', activityId: 'a' }, ({ user }) => user.set('n', 1))
        await storage.write({ 'test/bot/users/gone': {} })
        await storage.delete(['test/bot/users/gone'])
      }`,
    routes: snippet('check-keys'),
    after: `await show(redisKeys, postgresKeys, fileKeys)
      redis.disconnect()
      await pool.end()`
  })), '["test/bot/users/Zoë/1"]\n'.repeat(3))
})

t.test('a rotation comes to an end as the page says', async (t) => {
  t.match(await output(t, bot({
    before: `
      import { MemoryStorage, encrypted } from 'fastify-botas-state'
      const [plain, keys] = [new MemoryStorage(), ['test/bot/users/lost', 'test/bot/users/u']]
      const [a, b] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)]
      await encrypted(plain, { keys: { current: 'a', a } }).write({ 'test/bot/users/u': { name: 'Ada' } })
      await plain.write({ 'test/bot/users/lost': { name: '~encrypted:1:lost:' } })
      const storage = encrypted(plain, { keys: { current: 'b', a, b } })`,
    routes: snippet('rotate'),
    after: "await show(plain.read(['test/bot/users/u']))"
  })), /^the member "name" of the document "test\/bot\/users\/lost" cannot be decrypted: [^\n]+\n\{"test\/bot\/users\/u":\{"name":"~encrypted:1:b:/)
})

/** Whether a block compiles as it stands, between what the text takes for granted and what is said of it. */
async function compiles (t: Test, before: string, code: string, after: string) {
  const file = join(t.testdir({ 'snippet.ts': `${before}\n${code}\n${after}\n` }), 'snippet.ts')
  const options = ['--ignoreConfig', '--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2023', '--types', 'node']
  const { stdout } = await run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), ...options, file]).catch((error) => error)
  t.equal(stdout, '')
}

const APP = "import Fastify from 'fastify'\nimport botasState from 'fastify-botas-state'\nconst app = Fastify()"

t.test('options and upgrades that are used twice have types', async (t) => {
  const [imports = '', ...code] = snippet('document-options').split('\n')
  await compiles(t, `import Fastify from 'fastify'\n${imports}\nconst app = Fastify()`, code.join('\n'), 'app.register(botasState, { documents })')
})

t.test('types may be those of a schema', async (t) => {
  await compiles(t, `import { z } from 'zod'\n${APP}`, snippet('document-types'), `
    app.post('/typed', async ({ state }) => {
      const visits: number | undefined = state.user.get('visits')
      // @ts-expect-error a number
      state.user.set('visits', 'one')
      return visits
    })`)
  await compiles(t, `import * as v from 'valibot'\n${APP}`, `
    const user = v.object({ visits: v.optional(v.number()) })
    declare module 'fastify-botas-state' { interface UserState extends v.InferInput<typeof user> {} }`, 'app.register(botasState, { documents: { user: { schema: user } } })')
  await compiles(t, `import { type } from 'arktype'\n${APP}`, `
    const user = type({ 'visits?': 'number' })
    type User = typeof user.inferIn
    declare module 'fastify-botas-state' { interface UserState extends User {} }`, 'app.register(botasState, { documents: { user: { schema: user } } })')
})

t.test('a schema of TypeBox is used as the page says', async (t) => {
  const { before, code } = importing('typebox')
  await compiles(t, `${before}\n${APP}`, code, '')
  const program = code.replaceAll(/: (?:TSchema|unknown)\b| as const/g, '')
  t.equal(await output(t, bot({
    before: before.replace('type TSchema, ', ''),
    routes: `${program}
      let visits = 'many'
      app.post('/api/messages', async ({ state: { user } }) => { user.set('visits', visits) })`,
    after: `
      for (visits of ['many', 1, 'many']) {
        await say()
        ${SAVED}
        console.log(JSON.stringify(await stored('users', 'u')))
      }`
  })), 'undefined\n{"visits":1}\n{"visits":1}\n')
})
