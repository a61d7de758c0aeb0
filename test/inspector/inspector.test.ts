import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import { connect } from 'node:net'
import { networkInterfaces } from 'node:os'
import { setTimeout as wait } from 'node:timers/promises'
import fastifyCompress from '@fastify/compress'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import botasState, { MemoryStorage } from '../../lib/index.js'
import { type InspectorOptions, inspector } from '../../lib/inspector/inspector.js'
import { CONVERSATION_KEY, message } from '../helpers/activities.js'
import { settled } from '../helpers/build-fastify.js'
import { memoryInUse } from '../helpers/memory.js'
import { inspectedBot } from '../helpers/inspected-bot.js'

const PATHS = ['/inspector', '/inspector/', '/inspector/page/app.js', '/inspector/page/lit-html/lit-html.js', '/inspector/page/style.css', '/inspector/page/icon.svg', '/inspector/turns/1', `/inspector/document?key=${CONVERSATION_KEY}`]

async function registered (options: object, order: 'after' | 'before' = 'after'): Promise<unknown> {
  const app = Fastify()
  if (order === 'after') app.register(botasState, { storage: new MemoryStorage() })
  app.register(inspector, options)
  try {
    return await app.ready()
  } finally {
    await app.close()
  }
}

function inProduction (t: Test): void {
  const before = process.env.NODE_ENV
  process.env.NODE_ENV = 'production'
  t.teardown(() => {
    if (before === undefined) delete process.env.NODE_ENV
    else process.env.NODE_ENV = before
  })
}

t.test('it is not registered in production, unless that is allowed', async (t) => {
  inProduction(t)
  await t.rejects(registered({}), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /NODE_ENV=production.*allow: true/ })
  await t.rejects(registered({ allow: false }), { code: 'FST_BOTAS_STATE_INVALID_OPTION' })
  await t.resolves(registered({ allow: true }))
})

t.test('what is wrong with its registration is said', async (t) => {
  await t.rejects(registered({ alow: true }), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /unknown option "alow"; known options: prefix, allow/ })
  for (const allow of ['true', 1, null, {}]) await t.rejects(registered({ allow }), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /"allow" must be true or false/ })
  await t.rejects(registered({}, 'before'), { message: /'fastify-botas-state' of plugin 'fastify-botas-state\/inspector' is not registered/ })
  const app = Fastify()
  t.teardown(() => app.close())
  app.register(botasState, { storage: new MemoryStorage() })
  app.register(inspector, { prefix: '/one' })
  app.register(inspector, { prefix: '/other' })
  await t.rejects(async () => await app.ready(), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /registered already/ })
})

t.test('it is at its prefix, by default at /inspector, with and without a slash at its end', async (t) => {
  const options: Array<[InspectorOptions, string]> = [[{}, '/inspector'], [{ prefix: '/see' }, '/see'], [{ prefix: '/a/b' }, '/a/b']]
  for (const [inspect, path] of options) {
    const { url } = await inspectedBot(t, { inspect })
    for (const slash of ['', '/', '/?a=b']) {
      const response = await fetch(`${url}${path}${slash}`)
      t.equal(response.status, 200)
      t.match(await response.text(), `<script type="module" src="${path}/page/app.js">`)
    }
    t.equal((await fetch(`${url}${path}/page/app.js`)).headers.get('content-type'), 'text/javascript; charset=utf-8')
    for (const unknown of ['page/../inspector.js', 'page/tsconfig.json', 'page/nothing.js', 'page/%2e%2e/inspector.js', 'turns/17', 'turns/x', 'document', 'document?key=test/bot/users/nobody']) {
      t.equal((await fetch(`${url}${path}/${unknown}`)).status, 404, unknown)
    }
  }
  const rewritten = Fastify({ rewriteUrl: ({ url = '' }) => url.replace('/bot', '') })
  t.teardown(() => rewritten.close())
  rewritten.register(botasState, { storage: new MemoryStorage() })
  rewritten.register(inspector)
  t.match((await rewritten.inject('/bot/inspector')).body, 'src="/bot/inspector/page/app.js"')
  const nested = Fastify()
  t.teardown(() => nested.close())
  nested.register(async (scope) => {
    scope.register(botasState, { storage: new MemoryStorage() })
    scope.register(inspector)
  }, { prefix: '/:tenant' })
  t.match((await nested.inject('/<acme>/inspector')).body, 'src="/%3Cacme%3E/inspector/page/app.js"')
  t.match((await nested.inject('/"acme/inspector')).body, /src="\/(?:%22|&#34;)acme\/inspector\/page\/app.js"/)
})

t.test('it answers this machine only', async (t) => {
  const all = await inspectedBot(t, { server: { trustProxy: true } })
  const proxy = http.createServer((request, response) => {
    http.get({ host: '127.0.0.1', port: new URL(all.url).port, path: request.url, headers: { ...request.headers, 'x-forwarded-for': '127.0.0.1' } }, (answer) => {
      response.writeHead(answer.statusCode as number)
      answer.pipe(response)
    })
  }).listen(0)
  t.teardown(() => proxy.close())
  await once(proxy, 'listening')
  const { port } = proxy.address() as { port: number }
  await all.say('hi')
  for (const path of [...PATHS, '/inspector/events']) {
    const refused = await all.app.inject({ url: path, remoteAddress: '10.0.0.1', headers: { 'x-forwarded-for': '127.0.0.1' } })
    t.equal(refused.statusCode, 403, path)
    t.match(refused.json(), { code: 'FST_BOTAS_STATE_NOT_LOCAL' })
    t.equal((await fetch(`http://127.0.0.1:${port}${path}`)).status, 403, `by a proxy: ${path}`)
    for (const host of ['bot.example.org', '127.0.0.1.example.org', 'localhost.example.org', '[::2]', '10.0.0.1', 'a b', 'evil.example@localhost', 'localhost/evil']) {
      t.equal((await all.app.inject({ url: path, headers: { host } })).statusCode, 403, `host "${host}": ${path}`)
    }
  }
  for (const remoteAddress of ['10.0.0.1', '192.168.1.1', '::ffff:10.0.0.1', 'fe80::1', '2001:db8::1', '128.0.0.1', '1.127.0.0']) {
    t.equal((await all.app.inject({ url: '/inspector', remoteAddress })).statusCode, 403, remoteAddress)
  }
  for (const remoteAddress of ['127.0.0.1', '127.1.2.3', '::1', '::ffff:127.0.0.1']) {
    t.equal((await all.app.inject({ url: '/inspector', remoteAddress })).statusCode, 200, remoteAddress)
  }
  for (const host of ['localhost:3978', 'bot.localhost', '127.0.0.1', '[::1]:3978', 'LOCALHOST']) {
    t.equal((await all.app.inject({ url: '/inspector', headers: { host } })).statusCode, 200, host)
  }
  for (const header of ['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'via', 'x-real-ip', 'cf-connecting-ip', 'true-client-ip', 'x-original-host', 'x-client-ip']) {
    t.equal((await all.app.inject({ url: '/inspector', headers: { [header]: '127.0.0.1' } })).statusCode, 403, header)
  }
})

t.test('what comes by HTTP/1.0 comes by a proxy, and is refused', async (t) => {
  const { url } = await inspectedBot(t)
  const { host, hostname, port } = new URL(url)
  const ask = async (version: string): Promise<string> => {
    const socket = connect(Number(port), hostname)
    socket.write(`GET /inspector HTTP/${version}\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)
    let text = ''
    for await (const chunk of socket) text += chunk
    return text
  }
  t.match(await ask('1.0'), /^HTTP\/1.1 403/)
  t.match(await ask('1.1'), /^HTTP\/1.1 200/)
})

t.test('a machine elsewhere is refused by what the socket says', async (t) => {
  const { address } = Object.values(networkInterfaces()).flat().find((one) => one?.internal === false && one.family === 'IPv4') as { address: string }
  const app = Fastify({ trustProxy: true, forceCloseConnections: true })
  t.teardown(() => app.close())
  app.register(botasState, { storage: new MemoryStorage() })
  app.register(inspector)
  await app.listen({ host: '0.0.0.0', port: 0 })
  const { port } = app.server.address() as { port: number }
  t.equal((await fetch(`http://127.0.0.1:${port}/inspector`)).status, 200)
  // Sent to the machine's own address, a packet has that as its source.
  const ask = (headers: http.OutgoingHttpHeaders): Promise<number> => new Promise((resolve, reject) => {
    http.get({ host: address, port, path: '/inspector/events', headers }, (response) => {
      response.resume()
      resolve(response.statusCode as number)
    }).on('error', reject)
  })
  t.equal(await ask({ host: 'localhost' }), 403)
  t.equal(await ask({ host: 'localhost', 'x-forwarded-for': '127.0.0.1' }), 403)
})

t.test('a page of another origin is told nothing, whatever CORS allows', async (t) => {
  const { app, url, say } = await inspectedBot(t)
  await say('hi')
  for (const path of ['/inspector/events', '/inspector/turns/1', `/inspector/document?key=${CONVERSATION_KEY}`]) {
    for (const site of ['cross-site', 'same-site']) {
      const { status, headers } = await get(`${url}${path}`, { 'sec-fetch-site': site })
      t.equal(status, 403, `${site}: ${path}`)
      t.equal(headers['cross-origin-resource-policy'], 'same-origin')
    }
  }
  const asked = async (origin: string) => (await app.inject({ url: '/inspector/turns/1', headers: { origin, host: 'localhost:3978' } })).statusCode
  for (const origin of ['http://evil.example', 'http://localhost:8080', 'null']) t.equal(await asked(origin), 403, origin)
  t.equal(await asked('http://localhost:3978'), 200)
  for (const site of ['same-origin', 'none']) t.equal((await app.inject({ url: '/inspector/turns/1', headers: { 'sec-fetch-site': site } })).statusCode, 200)
})

async function get (url: string, headers: Record<string, string>) {
  const request = http.get(url, { headers })
  const [response] = await once(request, 'response') as [http.IncomingMessage]
  response.resume()
  request.destroy()
  return { status: response.statusCode, headers: response.headers }
}

t.test('it loads nothing from elsewhere, and lets no text become markup', async (t) => {
  const { url, say } = await inspectedBot(t)
  await say('hi')
  for (const path of PATHS) {
    const { headers } = await fetch(`${url}${path}`)
    const policy = new Map(headers.get('content-security-policy')?.split('; ').map((rule) => [rule.split(' ')[0], rule.slice(rule.indexOf(' ') + 1)]))
    t.equal(policy.get('default-src'), "'none'")
    for (const name of ['script-src', 'style-src', 'connect-src', 'img-src']) t.equal(policy.get(name), "'self'", name)
    for (const name of ['base-uri', 'form-action', 'frame-ancestors']) t.equal(policy.get(name), "'none'", name)
    t.equal(policy.get('require-trusted-types-for'), "'script'")
    t.equal(headers.get('x-content-type-options'), 'nosniff')
    t.equal(headers.get('cache-control'), 'no-store')
  }
  const page = await (await fetch(`${url}/inspector`)).text()
  t.notMatch(page, /https?:\/\/|<script(?![^>]* src=)|<style|style=/)
})

t.test('nothing can be changed by it', async (t) => {
  const { app } = await inspectedBot(t, { inspect: { prefix: '/see' } })
  for (const line of app.printRoutes({ commonPrefix: false }).split('\n').filter((line) => line.includes('see'))) t.match(line, /\((?:GET|HEAD)(?:, HEAD)?\)/)
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE'] as const) {
    for (const path of ['', '/events', '/turns/1', '/document', '/page/app.js']) t.equal((await app.inject({ method, url: `/see${path}` })).statusCode, 404)
  }
})

t.test('a document that is looked at lives no longer for that', async (t) => {
  const storage = new MemoryStorage({ ttl: 1, renew: 'load' })
  const { app, say } = await inspectedBot(t, { storage })
  await say('hi')
  const look = async () => (await app.inject({ url: '/inspector/document', query: { key: CONVERSATION_KEY } })).json()
  const first = await look()
  t.ok(first.timeLeft > 500 && first.timeLeft <= 1000)
  t.strictSame(first.members.map(({ name }: { name: string }) => name), ['turn_count', 'said'])
  t.equal(first.size, Buffer.byteLength('{"turn_count":1,"said":["hi"]}'))
  await settled(async () => (await look()).size === undefined)
  t.strictSame(await storage.read([CONVERSATION_KEY]), {})
})

t.test('hooks that wrap what routes answer leave its answers alone', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('preSerialization', async (_request, _reply, payload) => ({ data: payload }))
  app.setReplySerializer((payload) => JSON.stringify({ wrapped: payload }))
  app.register(botasState, { storage: new MemoryStorage() })
  app.register(inspector, { logLevel: 'info' } as InspectorOptions)
  await app.ready()
  await app.botasState.run({ channelId: 'test', botId: 'bot', userId: 'ada' }, (state) => { state.user.set('n', 1) })
  t.match((await app.inject('/inspector/turns/1')).json(), { turn: { outcome: 'saved' } })
  t.match((await app.inject({ url: '/inspector/document', query: { key: 'test/bot/users/ada' } })).json(), { members: [{ name: 'n', text: '1' }] })
})

t.test('its requests leave no lines in a log, whatever the level', async (t) => {
  for (const [level, logLevel, lines] of [['info', undefined, 0], ['info', 'info', 2], ['silent', undefined, 0]] as const) {
    const log: string[] = []
    const app = Fastify({ logger: { level, stream: { write: (line: string) => { log.push(line) } } } })
    app.register(botasState, { storage: new MemoryStorage() })
    app.register(inspector, { ...logLevel !== undefined && { logLevel } })
    await app.inject('/inspector')
    t.equal(log.length, lines)
    await app.close()
  }
})

t.test('a storage that fails is told of', async (t) => {
  const storage = new MemoryStorage()
  const { app, say } = await inspectedBot(t, { storage })
  await say('hi')
  storage.read = async () => { throw new Error('the disk is gone') }
  const { statusCode, body } = await app.inject({ url: '/inspector/document', query: { key: CONVERSATION_KEY } })
  t.equal(statusCode, 500)
  t.match(JSON.parse(body), { message: 'the disk is gone' })
})

t.test('its requests are no turns: nobody is asked whose they are', async (t) => {
  const asked: string[] = []
  const { app, url, say } = await inspectedBot(t, {
    identify: (request) => {
      asked.push(request.url)
      const { channelId } = request.body as { channelId: string }
      return { channelId, botId: 'bot', conversationId: 'conversation-1' }
    }
  })
  await say('hi').catch(() => {})
  asked.length = 0
  for (const path of PATHS) t.not((await fetch(`${url}${path}`)).status, 500)
  t.strictSame(asked, [])
  t.equal(app.botasState.stats.openTurns, 0)
})

/** The events that a page is sent, as long as it listens. */
async function listen (url: string): Promise<{ events: Array<{ event: string, data: { turns: unknown[], seen: unknown[] } }>, response: http.IncomingMessage, request: http.ClientRequest }> {
  const request = http.get(url)
  const [response] = await once(request, 'response') as [http.IncomingMessage]
  const events: Awaited<ReturnType<typeof listen>>['events'] = []
  let text = ''
  response.on('data', (chunk) => {
    text += chunk
    for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
      const [, event, data] = /^(?:retry: \d+\n)?event: (\w+)\ndata: (.*)$/.exec(text.slice(0, end)) ?? []
      if (event !== undefined) events.push({ event, data: JSON.parse(data as string) })
      text = text.slice(end + 2)
    }
  })
  response.on('error', () => {})
  return { events, response, request }
}

t.test('pages are told what is new, and closing the server does not wait for them', async (t) => {
  const { app, url, say } = await inspectedBot(t)
  await say('one')
  await settled(() => app.botasState.stats.openTurns === 0)
  const page = await listen(`${url}/inspector/events`)
  t.equal(page.response.headers['content-type'], 'text/event-stream')
  await settled(() => page.events.length === 2)
  t.match(page.events, [{ event: 'begin' }, { event: 'news', data: { turns: [{ id: 1, outcome: 'saved' }], seen: [{ scope: 'conversation' }, { scope: 'user' }] } }])
  await say('two')
  await settled(() => page.events.some(({ data }) => (data.turns as Array<{ id: number, outcome: string }> | undefined)?.some(({ id, outcome }) => id === 2 && outcome === 'saved')))
  t.notMatch(JSON.stringify(page.events.slice(2)), '"id":1,', 'what was told is not told again')
  t.notMatch(JSON.stringify(page.events), /"one"|"two"/, 'values are told on demand')
  const begun = performance.now()
  await app.close()
  t.ok(performance.now() - begun < 4000)
})

t.test('neither a timeout for handlers nor compression comes between a page and its news', async (t) => {
  const { url, say } = await inspectedBot(t, { server: { handlerTimeout: 100 }, routes: (app) => app.register(fastifyCompress, { threshold: 0 }) })
  const page = await listen(`${url}/inspector/events`)
  await wait(300)
  await say('hi')
  await settled(() => page.events.length > 2)
  t.equal(page.response.complete, false)
})

t.test('a page over HTTP/2 and TLS is told as well', async (t) => {
  const pem = readFileSync(new URL('../certificates/localhost.pem', import.meta.url))
  const app = Fastify({ http2: true, https: { key: pem, cert: pem } })
  app.register(botasState, { storage: new MemoryStorage() })
  app.register(inspector)
  app.post('/api/messages', async (request) => {
    request.state.conversation.set('n', 1)
    return {}
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const client = http2.connect(`https://127.0.0.1:${(app.server.address() as { port: number }).port}`, { rejectUnauthorized: false })
  const stream = client.request({ ':path': '/inspector/events' })
  let text = ''
  stream.on('data', (chunk) => { text += chunk })
  await settled(() => text.includes('event: news'))
  await app.inject({ method: 'POST', url: '/api/messages', payload: message() })
  await settled(() => text.includes('"outcome":"saved"'))
  const [closed] = [app.close(), await once(stream, 'end')]
  // Fastify waits for the client to close an idle session.
  client.close()
  await t.resolves(closed)
})

t.test('a page that does not read for a while is told what is new when it does, and not all that was', async (t) => {
  const { app, url } = await inspectedBot(t, { storage: new MemoryStorage() })
  const page = await listen(`${url}/inspector/events`)
  await settled(() => page.events.length === 2)
  page.response.pause()
  const id = (turn: number): string => `${turn}-${'x'.repeat(1000)}`
  for (let turn = 0; turn < 5000; turn++) {
    const identity = { channelId: 'test', botId: id(turn), conversationId: id(turn), userId: id(turn) }
    await app.botasState.run(identity, (state) => { state.conversation.set('n', turn) })
    if (turn % 20 === 0) await wait(1)
  }
  let bytes = 0
  page.response.on('data', (chunk) => { bytes += chunk.length })
  page.response.resume()
  await settled(() => JSON.stringify(page.events.at(-1)).includes('"4999-'))
  // Told one by one they are more than 60 MB. The system's buffers hold some of that.
  t.ok(bytes < 30_000_000, `${bytes} bytes`)
})

for (const protocol of ['HTTP/1.1', 'HTTP/2']) {
  t.test(`a page that does not read neither keeps the server from closing, nor harms turns that are open: ${protocol}`, async (t) => {
    const storage = new MemoryStorage()
    const app = Fastify({ forceCloseConnections: true, ...protocol === 'HTTP/2' && { http2: true } } as object)
    app.register(botasState, { storage })
    app.register(inspector)
    app.register(async (scope) => { scope.addHook('preClose', async () => { await wait(300) }) })
    await app.listen({ host: '127.0.0.1', port: 0 })
    const { port } = app.server.address() as { port: number }
    const page = protocol === 'HTTP/1.1' ? http.get({ host: '127.0.0.1', port, path: '/inspector/events' }) : http2.connect(`http://127.0.0.1:${port}`)
    page.on('error', () => {})
    // What nobody reads stays with the server.
    await once(page instanceof http.ClientRequest ? page : page.request({ ':path': '/inspector/events' }).on('error', () => {}), 'response')
    const warnings: string[] = []
    const onWarning = ({ name }: Error): void => { warnings.push(name) }
    process.on('warning', onWarning)
    t.teardown(() => process.off('warning', onWarning))
    const id = (turn: number): string => `${turn}-${'x'.repeat(1000)}`
    const before = memoryInUse()
    for (let turn = 0; turn < 6000; turn++) {
      await app.botasState.run({ channelId: 'test', botId: id(turn), conversationId: id(turn), userId: id(turn) }, (state) => { state.temp.set('n', turn) })
      if (turn % 3 === 0) await wait(1)
    }
    // Told one by one they are more than 60 MB.
    const more = memoryInUse() - before
    t.ok(more < 40_000_000, `${more} bytes more`)
    const open = app.botasState.run({ channelId: 'test', botId: 'bot', userId: 'ada' }, async (state) => {
      await wait(600)
      state.user.set('done', true)
    })
    const closed = app.close()
    await open
    // Over HTTP/2 Fastify waits for its client.
    page.destroy()
    await closed
    t.strictSame(await storage.read(['test/bot/users/ada']), { 'test/bot/users/ada': { done: true } })
    t.strictSame(warnings, [])
  })
}

t.test('a page that left while hooks took their time is none', async (t) => {
  const app = Fastify({ forceCloseConnections: true })
  t.teardown(() => app.close())
  app.addHook('preHandler', async () => { await wait(200) })
  const written: unknown[] = []
  app.addHook('onRequest', async (_request, { raw }) => {
    const { write } = raw
    raw.write = ((chunk: string) => {
      written.push(chunk)
      return write.call(raw, chunk, 'utf8')
    }) as typeof raw.write
  })
  app.register(botasState, { storage: new MemoryStorage() })
  app.register(inspector)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const request = http.get({ host: '127.0.0.1', port: (app.server.address() as { port: number }).port, path: '/inspector/events' })
  request.on('error', () => {})
  await wait(50)
  request.destroy()
  await wait(400)
  t.strictSame(written, [])
})

t.test('a page that comes while the server closes is sent away', async (t) => {
  const { app, url, say } = await inspectedBot(t, {
    server: { return503OnClosing: false, forceCloseConnections: false },
    routes: (app) => app.register(async (scope) => { scope.addHook('preClose', async () => { await wait(300) }) })
  })
  await say('hi')
  const closed = app.close()
  await wait(100)
  const page = await listen(`${url}/inspector/events`).catch(() => undefined)
  if (page !== undefined) await once(page.response, 'close')
  await t.resolves(closed)
})

t.test('ten thousand turns leave the last two hundred, and the last thousand of whose they are', async (t) => {
  const { app, url } = await inspectedBot(t, { storage: new MemoryStorage() })
  for (let turn = 0; turn < 10_000; turn++) {
    await app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: `c${turn}`, userId: 'ada' }, (state) => { state.user.set('n', turn) })
  }
  const page = await listen(`${url}/inspector/events`)
  await settled(() => page.events.length === 2)
  const { turns, seen } = page.events[1]?.data as { turns: Array<{ id: number }>, seen: Array<{ key: string, turns: number }> }
  t.strictSame(turns.map(({ id }) => id), Array.from({ length: 200 }, (_, index) => 9801 + index))
  t.equal(seen.length, 1000)
  t.match(seen.at(-1), { key: 'test/bot/users/ada', turns: 10_000 })
  t.equal((await app.inject('/inspector/turns/9800')).statusCode, 404)
  t.match((await app.inject('/inspector/turns/9801')).json(), { documents: [{ key: 'test/bot/users/ada', changes: [{ path: ['n'], before: { text: '9799' }, after: { text: '9800' } }] }] })
})
