import { execFile } from 'node:child_process'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { promisify } from 'node:util'
import { type CryptoKey, SignJWT, UnsecuredJWT, exportJWK, generateKeyPair } from 'jose'
import t, { type Test } from 'tap'
import { FileStorage } from '../../lib/index.js'
import { RedisStorage } from '../../lib/storage/redis/redis-storage.js'
import { startExample } from '../helpers/bot-process.js'
import { say } from '../helpers/counter-bot.js'
import { freePort } from '../helpers/free-port.js'
import { shellEnvironment, startScript } from '../helpers/node-process.js'
import { activity, bot, output, snippet } from '../helpers/pages.js'
import { openSocket } from '../helpers/raw-client.js'
import { startRedis } from '../helpers/redis-server.js'

const run = promisify(execFile)

/** A server in place of that which has the keys of Bot Framework's channels; and how to sign with them. */
async function startKeys (t: Test) {
  const { publicKey, privateKey } = await generateKeyPair('RS256', { extractable: true })
  const another = await generateKeyPair('RS256', { extractable: true })
  const keys = { keys: [{ ...await exportJWK(publicKey), kid: 'channel', use: 'sig', alg: 'RS256' }, { ...await exportJWK(another.publicKey), kid: 'another', use: 'sig', alg: 'RS256' }] }
  const server = createServer((_request, response) => response.setHeader('content-type', 'application/json').end(JSON.stringify(keys)))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const claims = { iss: 'https://api.botframework.com', aud: 'my-bot', serviceurl: 'https://smba.example' }
  const token = ({ key = privateKey, kid = 'channel', expires = '1h', ...other }: { key?: CryptoKey, kid?: string, expires?: string | number, [claim: string]: unknown } = {}) => {
    const jwt = new SignJWT({ ...claims, ...other }).setProtectedHeader({ alg: 'RS256', ...kid !== '' && { kid } })
    return (expires === 'never' ? jwt : jwt.setExpirationTime(expires)).sign(key)
  }
  const unsigned = new UnsecuredJWT(claims).setExpirationTime('1h').encode()
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, token, unsigned }
}

/** A bot that checks tokens, and what it answers to each. */
function guarded (keysUrl: string, tokens: unknown): string {
  return bot({
    before: `
      process.env.MICROSOFT_APP_ID = 'my-bot'
      const storage = 'memory:'`,
    routes: `
      ${snippet('authentication').replace('https://login.botframework.com/v1/.well-known/keys', keysUrl)}
      app.post('/api/messages', async ({ state, serviceUrl }) => ({ n: state.conversation.update('n', (n = 0) => n + 1), serviceUrl }))
      app.get('/health', async () => 'well')`,
    after: `
      for (const authorization of ${JSON.stringify(tokens)}) {
        const reply = await app.inject({ method: 'POST', url: '/api/messages', payload: ${JSON.stringify(activity)}, headers: authorization === null ? {} : { authorization } })
        console.log(reply.statusCode, app.botasState.stats.loads, reply.statusCode === 200 ? reply.body : '')
      }
      console.log((await app.inject('/health')).statusCode)`
  })
}

t.test('only the channels of Bot Framework are let in, and for strangers nothing is loaded', async (t) => {
  const { url, token, unsigned } = await startKeys(t)
  const foreign = await generateKeyPair('RS256')
  const bad = [
    null, '', 'Bearer', 'Bearer none', 'Basic YTpi', `Bearer ${unsigned}`, `Bearer ${await token({ key: foreign.privateKey })}`, `Bearer ${await token({ aud: 'another-bot' })}`,
    `Bearer ${await token({ iss: 'https://elsewhere' })}`, `Bearer ${await token({ expires: 1 })}`, `Bearer ${await token({ expires: 'never' })}`,
    `Bearer ${(await token()).slice(0, -4)}AAAA`, `Bearer ${await token({ kid: '', key: foreign.privateKey })}`
  ]
  const printed = await output(t, guarded(url, [...bad, `Bearer ${await token()}`, `bearer ${await token()}`]))
  const letIn = (n: number) => `200 ${n} {"n":${n},"serviceUrl":"https://smba.example"}\n`
  t.equal(printed, `${bad.map(() => '401 0 \n').join('')}${letIn(1)}${letIn(2)}200\n`)
})

t.test('where the keys cannot be reached the channel gets a 500, and delivers again', async (t) => {
  const { token } = await startKeys(t)
  const nowhere = `http://127.0.0.1:${await freePort()}`
  t.equal(await output(t, guarded(nowhere, [`Bearer ${await token()}`])), '500 0 \n200\n')
})

t.test('without the id of the bot it does not start', async (t) => {
  await t.rejects(output(t, bot({ before: "const storage = 'memory:'", routes: snippet('authentication') })), { message: /MICROSOFT_APP_ID is not set/ })
})

t.test('replicas of the example on Redis see what the others have stored, message by message', async (t) => {
  const { url } = await startRedis(t)
  const directory = t.testdir()
  const replicas = await Promise.all([1, 2].map(() => startExample(t, 'redis/main.ts', directory, { STATE_STORAGE: url })))
  for (let n = 1; n <= 300; n++) {
    const answer = await say(replicas[n % 2] as (typeof replicas)[number], 'Hi')
    if (answer !== `Turn #${n} | Your message #${n}: Hi`) t.fail(`message ${n}: ${answer}`)
  }
  for (const replica of replicas) t.equal(await replica.stop(), 0)
})

t.test('a server is closed at once though clients keep their connection, or say nothing, and what is at work is answered and saved', async (t) => {
  const directory = t.testdir()
  const { child, lines, exited } = startScript(t, `
    import Fastify from 'fastify'
    import botasState from 'fastify-botas-state'
    const app = Fastify()
    ${snippet('shutdown')}
    process.once('SIGTERM', () => app.close())
    app.register(botasState, { storage: 'file:${directory}/state' })
    app.post('/api/messages', async ({ state }) => {
      console.log('at work')
      await new Promise((resolve) => setTimeout(resolve, 300))
      state.user.set('n', 1)
      return {}
    })
    console.log(await app.listen({ port: 0, host: '127.0.0.1' }))`, directory)
  const url = (await lines.next()).value as string
  const silent = await openSocket(Number(new URL(url).port))
  t.teardown(() => silent.destroy())
  const answer = fetch(`${url}/api/messages`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(activity) })
  t.equal((await lines.next()).value, 'at work')
  const before = Date.now()
  child.kill('SIGTERM')
  t.equal((await answer).status, 200)
  t.match(await exited, { code: 0, errors: '' })
  t.ok(Date.now() - before < 10_000, 'Node would have waited for more than a minute')
  t.strictSame(await new FileStorage(`${directory}/state`).read(['test/bot/users/u']), { 'test/bot/users/u': { n: 1 } })
})

t.test('what is stored can be looked at, in Redis and in files', async (t) => {
  const { url } = await startRedis(t)
  const directory = t.testdir()
  const [ofRedis, ofFile] = snippet('look').trim().split('\n') as [string, string]
  for (const storage of [new RedisStorage(url), new FileStorage(`${directory}/state-data`)]) {
    await storage.write({ 'test/bot/users/ada': { lastWords: 'Hi' } })
    await storage.close()
  }
  for (const command of [ofRedis.replace('redis-cli', `redis-cli -u ${url}`), ofFile]) {
    const { stdout } = await run('sh', ['-c', command], { cwd: directory, env: shellEnvironment })
    t.equal(stdout.trim(), '{"lastWords":"Hi"}')
  }
})

t.test('a document from elsewhere is written under the key of its owner', async (t) => {
  t.equal(await output(t, bot({
    before: "import { conversationKey, userKey } from 'fastify-botas-state'",
    routes: "await register()\napp.post('/api/messages', async ({ state }) => ({ c: state.conversation.toJSON(), u: state.user.toJSON() }))",
    after: `
      const identity = { channelId: 'test', botId: 'bot', conversationId: 'c', userId: 'u' }
      await app.botasState.storage.write({ [conversationKey(identity)]: { n: 1 }, [userKey(identity)]: { name: 'Ada' } })
      console.log((await say()).body)`
  })), '{"c":{"n":1},"u":{"name":"Ada"}}\n')
})

t.test('on AWS Lambda each turn is saved when its answer is there', async (t) => {
  const event = JSON.stringify({
    version: '2.0',
    routeKey: '$default',
    rawPath: '/api/messages',
    rawQueryString: '',
    headers: { 'content-type': 'application/json' },
    requestContext: { http: { method: 'POST', path: '/api/messages' } },
    body: JSON.stringify(activity),
    isBase64Encoded: false
  })
  const directory = t.testdir()
  const handler = `
    import Fastify from 'fastify'
    import botasState from 'fastify-botas-state'
    const app = Fastify()
    const storage = 'file:${directory}/state'
    ${snippet('lambda').replace(/^import/m, "const { default: awsLambdaFastify } = await import('@fastify/aws-lambda') //").replace('export const', "app.post('/api/messages', async ({ state }) => ({ n: state.conversation.update('n', (n = 0) => n + 1) }))\n    const")}
    const { body } = await handler(${event}, {})
    console.log(body)
    setInterval(() => {}, 1000)`
  for (const n of [1, 2]) {
    const { child, lines, exited } = startScript(t, handler, directory)
    t.equal((await lines.next()).value, `{"n":${n}}`)
    // As Lambda stops a process, or less kindly.
    child.kill('SIGKILL')
    await exited
  }
})

t.test('code without a request finds the state of the turn that it belongs to', async (t) => {
  t.equal(await output(t, bot({
    before: "const storage = 'memory:'",
    routes: `
      ${snippet('request-context')}
      app.post('/api/messages', async ({ body, state }) => {
        state.user.set('name', body.from.id)
        await new Promise((resolve) => setTimeout(resolve, 20))
        return nameOfUser()
      })`,
    after: `
      const names = ['ada', 'bob', 'cy']
      const replies = await Promise.all(names.map((id) => say({ ...${JSON.stringify(activity)}, from: { id } })))
      console.log(replies.map(({ body }) => body).join())`
  })), 'ada,bob,cy\n')
})

t.test('each message of a websocket is a turn', async (t) => {
  t.equal(await output(t, bot({
    before: 'import websocket from \'@fastify/websocket\'\nimport { once } from \'node:events\'',
    routes: `await register()\n${snippet('websocket')}`,
    after: `
      const socket = await app.injectWS('/chat')
      for (const text of ['Hi', 'again']) {
        socket.send(JSON.stringify({ conversationId: 'c', text }))
        console.log(String((await once(socket, 'message'))[0]))
      }
      await show(app.botasState.stats.openTurns, app.botasState.storage.read(['socket/bot/conversations/c']))
      const replies = []
      socket.on('message', (data) => replies.push(String(data)))
      for (let n = 3; n <= 32; n++) socket.send(JSON.stringify({ conversationId: 'c', text: n }))
      while (replies.length < 30) await new Promise((resolve) => setTimeout(resolve, 5))
      console.log(replies.every((reply, index) => reply === 'Turn #' + (index + 3) + ': ' + (index + 3)))
      socket.send('no JSON')
      console.log((await once(socket, 'close'))[0])`
  })), 'Turn #1: Hi\nTurn #2: again\n0\n{"socket/bot/conversations/c":{"turnCount":2}}\ntrue\n1011\n')
})

t.test('turns without a request remind', async (t) => {
  t.equal(await output(t, bot({
    before: 'const [channelId, botId, conversationId, userId] = ["test", "bot", "c", "u"]',
    routes: 'await register()',
    after: `
      ${snippet('run')}
      await show(stored('conversations', 'c'))`
  })), '{"reminded":true}\n')
})

t.test('the health route tells how the storage is', async (t) => {
  t.equal(await output(t, bot({
    before: `
      import { MemoryStorage } from 'fastify-botas-state'
      class Down extends MemoryStorage { watch (observer) { observer.down(new Error('no answer')); return () => {} } }`,
    routes: `await app.register(botasState, { storage: new Down() })\n${snippet('health')}`,
    after: 'const { statusCode, body } = await app.inject("/health"); console.log(statusCode, body)'
  })), '503 {"storage":false,"openTurns":0,"pendingFlushes":0,"flushFailures":0}\n')
  t.equal(await output(t, bot({ routes: `await register()\n${snippet('health')}`, after: 'console.log((await app.inject("/health")).body)' })),
    '{"storage":true,"openTurns":0,"pendingFlushes":0,"flushFailures":0}\n')
})
