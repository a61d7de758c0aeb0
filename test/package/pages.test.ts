import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Redis } from 'ioredis'
import t from 'tap'
import { shellEnvironment } from '../helpers/node-process.js'
import { activity, bot, handler, output, snippet } from '../helpers/pages.js'
import { startRedis } from '../helpers/redis-server.js'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))

t.test('the counter counts', async (t) => {
  t.equal(await output(t, bot({ routes: handler('counter'), after: 'await say(); await say(); await show(stored("conversations", "c"))' })),
    '{"counter":2}\n')
})

t.test('the inspector is registered for development', async (t) => {
  const lines = snippet('inspector').split('\n')
  const program = (environment: string) => output(t, bot({
    before: `${lines[0]}\nprocess.env.NODE_ENV = '${environment}'\nconst storage = 'memory:'`,
    routes: lines.slice(1).join('\n'),
    after: 'console.log((await app.inject("/inspector")).statusCode)'
  }))
  t.equal(await program('development'), '200\n')
  t.equal(await program('production'), '404\n')
})

t.test('preferences changed in place are kept', async (t) => {
  t.match(await output(t, bot({ routes: handler('preferences'), after: 'await say(); await show(stored("users", "u"))' })),
    /^\{"preferences":\{"language":"en"\},"since":"\d{4}-\d\d-\d\dT[\d:.]+Z"\}$/m)
})

t.test('the chat history grows, and is shown to the model', async (t) => {
  t.equal(await output(t, bot({
    before: 'const model = async (messages) => messages.length + " messages"',
    routes: handler('history'),
    after: 'await say(); await say(); await show(stored("conversations", "c"))'
  })), JSON.stringify({
    history: [
      { role: 'user', content: 'Hi' }, { role: 'assistant', content: '1 messages' },
      { role: 'user', content: 'Hi' }, { role: 'assistant', content: '3 messages' }
    ]
  }) + '\n')
})

t.test('a streamed answer is remembered', async (t) => {
  t.equal(await output(t, bot({
    before: 'async function * model () { yield * ["Hello, ", "world"] }',
    routes: `await register()\n${snippet('stream')}`,
    after: 'console.log((await say()).body); await say(); await show(stored("conversations", "c"))'
  })), 'Hello, world\n{"lastAnswer":"Hello, world"}\n')
})

t.test('a streamed answer whose model fails is broken off and not remembered, and nobody is left waiting', async (t) => {
  t.equal(await output(t, bot({
    before: 'async function * model () { yield "Hello, "; throw new Error("no more") }',
    routes: `await register()\n${snippet('stream')}`,
    after: `
      const url = await app.listen({ port: 0 }) + '/api/messages'
      const request = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '${JSON.stringify(activity)}' }
      await show(fetch(url, request).then((reply) => reply.text()).catch(() => 'broken off'))
      await show(app.botasState.stats.openTurns, stored('conversations', 'c'))`
  })), '"broken off"\n0\nundefined\n')
})

t.test('a hook passes something on to the handler', async (t) => {
  t.match(await output(t, bot({
    routes: `await register()\n${snippet('temp')}\napp.post('/api/messages', async ({ state }) => state.temp.get('requestId'))`,
    after: 'console.log((await say()).body)'
  })), /^[\da-f-]{36}$/m)
})

t.test('declared types are what the comments say', async (t) => {
  const [declaration, ...uses] = snippet('types').split('\n\n') as [string, string]
  const lines = uses.join('\n').trim().split('\n').map((line) => {
    const [, code, comment] = /^(.*?)\s*\/\/ (.*)$/.exec(line) as unknown as [string, string, string]
    return comment === 'does not compile' ? `  // @ts-expect-error ${comment}\n  ${code}` : `  same<${comment}>()(${code})`
  })
  const file = join(t.testdir({
    'snippet.ts': `import type { FastifyRequest } from 'fastify'
import type {} from 'fastify-botas-state'
${declaration}
declare function same<A> (): <B>(value: B, ...equal: (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? [] : [never]) => void
export function use (request: FastifyRequest) {
${lines.join('\n')}
}
`
  }), 'snippet.ts')
  const options = ['--ignoreConfig', '--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2023', '--types', 'node']
  const { stdout } = await run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), ...options, file]).catch((error) => error)
  t.equal(stdout, '')
})

t.test('the user of Redis may do what the plugin needs', async (t) => {
  const redis = await startRedis(t)
  const rule = snippet('acl').trim().replace('>password', '>swordfish').split(' ')
  const admin = new Redis(redis.url)
  t.teardown(() => admin.disconnect())
  t.equal(await admin.call(...rule as [string, ...string[]]), 'OK')
  const url = redis.url.replace('redis://', 'redis://bot:swordfish@')
  t.equal(await output(t, bot({
    routes: `await app.register(botasState, { storage: '${url}', flush: 'onSend' })
      app.post('/api/messages', async ({ state }) => ({ n: state.conversation.update('n', (n = 0) => n + 1) }))`,
    after: 'await say(); console.log((await say()).body)'
  })), '{"n":2}\n')
  t.strictSame(await admin.acl('LOG'), [])
})

t.test('a client of the user\'s is closed when the turns that use it are over', async (t) => {
  const redis = await startRedis(t)
  const here = new URL(redis.url)
  const client = snippet('client').replace(/ {2}sentinels: .*\n {2}name: .*\n/, `  host: '${here.hostname}', port: ${here.port},\n`)
  t.equal(await output(t, bot({
    before: client,
    routes: `app.post('/api/messages', async ({ state }) => {
      app.close()
      await new Promise((resolve) => setTimeout(resolve, 200))
      state.user.set('n', 1)
    })`,
    after: 'await app.listen({ port: 0 }); await say(); await app.close(); console.log("over")'
  })), 'over\n', 'and the process ends')
  const reader = new Redis(redis.url)
  t.teardown(() => reader.disconnect())
  t.equal(await reader.get('botas:test/bot/users/u'), '{"n":1}')
})

t.test('a diagnostics channel tells of every save', async (t) => {
  t.match(await output(t, bot({
    before: `const histogram = { record: (duration, { outcome }) => console.log(typeof duration, outcome) }\n${snippet('channel').replace(/^import/m, 'const { subscribe } = await import("node:diagnostics_channel") //')}`,
    routes: 'await register()\napp.post("/api/messages", async ({ state }) => { state.user.set("n", 1); return {} })',
    after: 'await say()'
  })), /^number success$/m)
})

const KEYV_PROMISES = 10

t.test('the storage of an author conforms, with node:test', async (t) => {
  const printed = await output(t, snippet('storage-test'), { 'keyv-storage.mjs': snippet('storage') }, '--test', '--test-reporter=tap')
  t.match(printed, new RegExp(`^# pass ${KEYV_PROMISES}$`, 'm'))
  t.match(printed, /^# fail 0$/m)
})

t.test('the storage of an author conforms, with vitest', async (t) => {
  const directory = t.testdir({
    'keyv-storage.mjs': snippet('storage'),
    'keyv-storage.test.mjs': snippet('storage-test').replace('\'node:test\' // or from \'vitest\'', '\'vitest\'')
  })
  const vitest = join(root, 'node_modules/vitest/vitest.mjs')
  const { stdout } = await run(process.execPath, [vitest, 'run', '--root', directory, '--reporter=json'], { env: shellEnvironment })
  t.match(JSON.parse(stdout), { numTotalTests: KEYV_PROMISES, numPassedTests: KEYV_PROMISES, success: true })
})

t.test('the storage of an author conforms, with tap', async (t) => {
  const printed = await output(t, snippet('storage-test-tap'), { 'keyv-storage.mjs': snippet('storage') })
  t.match(printed, new RegExp(`^# { total: ${KEYV_PROMISES}, pass: ${KEYV_PROMISES} }$`, 'm'))
})

t.test('the picture of a turn says of every box once what it is', async (t) => {
  const picture = snippet('mermaid')
  const boxes = [...picture.matchAll(/\b([A-Z])(?=[[({])/g)].map(([, box]) => box)
  const ends = [...picture.matchAll(/(?:^ {2}|--> )([A-Z])\b/gm)].map(([, box]) => box)
  t.strictSame(boxes.sort(), [...new Set(ends)].sort())
})

t.test('turns wait for each other, an activity is handled once, and a replaced turn answers in words', async (t) => {
  const { url } = await startRedis(t)
  const onRedis = (name: string) => snippet(name).replace('redis://localhost:6379', url)
  const counting = `
    let running = 0
    let most = 0
    app.post('/api/messages', async ({ state: { conversation } }) => {
      most = Math.max(most, ++running)
      const n = conversation.get('n') ?? 0
      await new Promise((resolve) => setTimeout(resolve, 10))
      conversation.set('n', n + 1)
      running--
      return { n: n + 1 }
    })`
  const twice = 'await show((await Promise.all([say(), say()])).map((reply) => reply.json().n), most)'
  t.equal(await output(t, bot({ routes: onRedis('concurrency') + counting, after: twice })), '[1,2]\n1\n')
  const event = JSON.stringify({ ...activity, type: 'typing' })
  t.equal(await output(t, bot({
    routes: snippet('concurrency-limits') + counting,
    after: `await show((await Promise.all([say(), say(${event}), say()])).map(({ statusCode }) => statusCode), stored('conversations', 'c'))`
  })), '[409,200,200]\n{"n":1}\n')
  for (const [id, routes] of Object.entries({ a1: onRedis('once'), a2: snippet('once-limits') })) {
    const withId = JSON.stringify({ ...activity, id, conversation: { id } })
    t.equal(await output(t, bot({
      routes: routes + counting,
      after: `
        const replies = await Promise.all([say(${withId}), say(${withId})])
        await show(replies.map((reply) => reply.json().n), replies.map(({ headers }) => headers['botas-state'] ?? null))`
    })), '[1,1]\n[null,"replayed"]\n')
  }
  t.equal(await output(t, bot({
    routes: `
      await app.register(botasState, { concurrency: 'replace' })
      const askModel = (text, { signal }) => new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason))
        setTimeout(() => resolve(text + '!'), 100)
      })
      ${snippet('replace')}`,
    after: "await show((await Promise.all([say(), say()])).map((reply) => reply.json()), stored('conversations', 'c'))"
  })), '[{"text":""},{"text":"Hi!"}]\n{"lastAnswer":"Hi!"}\n')
})
