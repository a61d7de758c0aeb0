import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { inspect, promisify } from 'node:util'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { RedisStorage } from '../../../../lib/storage/redis/redis-storage.js'
import { CONVERSATION_KEY, message } from '../../../helpers/activities.js'
import { buildFastify, post, settled } from '../../../helpers/build-fastify.js'
import { authorityPath, certificatePath } from '../../../helpers/certificates.js'
import { shellEnvironment } from '../../../helpers/node-process.js'
import { freePort } from '../../../helpers/free-port.js'
import { startRedis } from '../../../helpers/redis-server.js'
import { storageSuite } from '../../../helpers/storage-suite.js'

/** With characters that a URL has to encode. */
const PASSWORD = 'hunter2@/:?#%'
const COMMANDS = '+get +set +del +hget +hset +hdel +hlen +hkeys +pttl +pexpire +zrange +evalsha +eval +info'

/** A server with TLS on one port and without on another, with users that may do this and that, and an admin's client. */
async function startSecure (t: Test, program?: 'valkey-server', args: string[] = []) {
  const tlsPort = await freePort()
  const { port } = await startRedis(t, [
    '--tls-port', String(tlsPort), '--tls-cert-file', certificatePath, '--tls-key-file', certificatePath,
    '--tls-ca-cert-file', authorityPath, '--tls-auth-clients', 'no',
    ...user('admin', '~* &* +@all'),
    ...user('botas', `~botas:* ${COMMANDS}`),
    ...user('queueing', `~botas:* ${COMMANDS} +time +zadd +zremrangebyscore`),
    ...user('renewing', `~botas:* ${COMMANDS} +getex`),
    ...user('without-scripts', '~botas:* +get +set +del +info'),
    ...user('reader', `%R~botas:* ${COMMANDS}`),
    ...user('stranger', `~others:* ${COMMANDS}`),
    '--user', 'default', 'off',
    ...args
  ], program)
  const admin = new Redis(port, { username: 'admin', password: PASSWORD })
  t.teardown(() => admin.disconnect())
  return { port, tlsPort, admin }
}

function user (name: string, rules: string): string[] {
  return ['--user', name, 'on', `>${PASSWORD}`, ...rules.split(' ')]
}

const server = await startSecure(t)
const { admin, tlsPort } = server

function urlOf (name: string, { scheme = 'redis', port = server.port, password = PASSWORD } = {}): string {
  return `${scheme}://${name}:${encodeURIComponent(password)}@localhost:${port}`
}

/** Posts messages to a bot that counts them, and gives all that anybody is told. */
async function converse (t: Test, storage: string, messages = 1) {
  const errors: Error[] = []
  const { app, url, log } = await buildFastify(t, { storage, flush: 'onSend', loadTimeout: 500 }, (app) => {
    app.addHook('onError', async (_request, _reply, error) => { errors.push(error) })
    app.post('/', async ({ state: { conversation } }) => {
      conversation.set('secret', 'state-value')
      return { count: conversation.update<number>('count', (n = 0) => n + 1) }
    })
  })
  const printed = (['log', 'info', 'warn', 'error'] as const).map((method) => t.capture(console, method))
  const begin = Date.now()
  const replies = []
  while (replies.length < messages) replies.push(await post(url, message()))
  const duration = Date.now() - begin
  const told = inspect([errors, log, replies, app.botasState.stats], { depth: Infinity, showHidden: true })
  await app.close()
  t.strictSame(printed.flatMap((calls) => calls()), [], 'nothing is printed')
  t.notMatch(told, /hunter|state-value/, 'neither the password nor a value is told')
  return { replies, errors, log, duration }
}

/** Three turns of a bot in a process that trusts the test's authority. */
async function runBot (url: string) {
  const bot = fileURLToPath(new URL('../../../processes/secure-bot.js', import.meta.url))
  return promisify(execFile)(process.execPath, [bot, url], { env: { ...shellEnvironment, NODE_EXTRA_CA_CERTS: authorityPath } })
}

t.test('on a Cluster over TLS a bot needs a few commands more', async (t) => {
  const { port, tlsPort, admin } = await startSecure(t, undefined, [
    '--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1', '--tls-cluster', 'yes', '--cluster-port', String(await freePort()),
    ...user('clustered', `~botas:* ${COMMANDS} +cluster|slots +cluster|info +client|setname`)
  ])
  await admin.cluster('ADDSLOTSRANGE', 0, 16383)
  await settled(async () => /cluster_state:ok/.test(await admin.cluster('INFO') as string))
  const url = (scheme: string, port: number) => `${urlOf('clustered', { scheme, port })},127.0.0.1:${port}`
  t.strictSame(await runBot(url('rediss', tlsPort)), { stdout: '{"count":1}\n{"count":2}\n{}\n', stderr: '' })
  t.strictSame(await admin.acl('LOG'), [])
  t.match((await converse(t, url('redis', port))).replies, [{ status: 200 }])
  const { replies, log } = await converse(t, url('rediss', tlsPort))
  t.match(replies, [{ status: 500, body: { code: 'FST_BOTAS_STATE_LOAD_FAILED' } }])
  // ioredis says no more of the nodes of a Cluster.
  t.match(log.filter(({ msg }) => msg.includes('cannot be reached')), [{ err: { message: /^Redis: Failed to refresh slots cache/ } }])
})

for (const program of [undefined, 'valkey-server'] as const) {
  t.test(`over TLS a bot does nothing that is denied to a user with no more than its commands, and prints nothing: ${program ?? 'redis-server'}`, async (t) => {
    const { tlsPort, admin } = program === undefined ? server : await startSecure(t, program)
    t.strictSame(await runBot(urlOf('botas', { scheme: 'rediss', port: tlsPort })), { stdout: '{"count":1}\n{"count":2}\n{}\n', stderr: '' })
    // There a server writes down what it denied to whom.
    t.strictSame(await admin.acl('LOG'), [])
  })
}

t.test('with concurrency and once a bot needs a few commands more', async (t) => {
  const counts = async (user: string) => {
    const { app, url } = await buildFastify(t, { storage: urlOf(user), concurrency: 'queue', once: true }, (app) => {
      app.post('/', async ({ state: { conversation } }) => ({ n: conversation.update<number>('queued', (n = 0) => n + 1) }))
    })
    const replies = [await post(url, message({ id: `${user} a` })), await post(url, message({ id: `${user} a` })), await post(url, message({ id: `${user} b` }))]
    await app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: 'conversation-1' }, (state) => state.deleteConversationState()).catch(() => {})
    return replies
  }
  await admin.acl('LOG', 'RESET')
  t.match(await counts('queueing'), [{ body: { n: 1 } }, { body: { n: 1 } }, { body: { n: 2 } }])
  t.strictSame(await admin.acl('LOG'), [])
  t.match(await counts('botas'), [{ status: 500, body: { code: 'FST_BOTAS_STATE_LOAD_FAILED' } }, { status: 500 }, { status: 500 }])
  await admin.acl('LOG', 'RESET')
})

t.test('a client that trusts an authority of its own does all that a storage must, with one command more to renew by loads', async (t) => {
  const client = new Redis({
    host: 'localhost',
    port: tlsPort,
    username: 'renewing',
    password: PASSWORD,
    tls: { ca: readFileSync(authorityPath) },
    maxRetriesPerRequest: 0,
    disableClientInfo: true
  })
  t.teardown(() => client.disconnect())
  await t.test('what every storage promises', async (t) => storageSuite(t, (t, options) =>
    new RedisStorage(client, { ...options, keyPrefix: `botas:${t.fullname}:` })))
  t.strictSame(await admin.acl('LOG'), [])
})

const unreachable: Array<[title: string, url: string, reason: RegExp]> = [
  ['a wrong password', urlOf('botas', { password: 'hunter3' }), /WRONGPASS/],
  ['a user that is off', urlOf('default'), /WRONGPASS/],
  ['a certificate that nobody vouches for', urlOf('botas', { scheme: 'rediss', port: tlsPort }), /self-signed certificate|unable to verify/],
  ['a server that expects TLS', urlOf('botas', { port: tlsPort }), /^Redis: ./]
]

for (const [title, url, reason] of unreachable) {
  t.test(`${title} fails turns at loadTimeout, and is logged once, with the reason and without the password`, async (t) => {
    const { replies, errors, log, duration } = await converse(t, url, 2)
    t.match(replies, [{ status: 500, body: { code: 'FST_BOTAS_STATE_LOAD_FAILED' } }, { status: 500 }])
    t.match(errors, [{ cause: { message: /^Redis: there is no connection/ } }, { cause: { message: /^Redis: there is no connection/ } }])
    t.ok(duration < 2 * 500 + 500, `two turns took ${duration} ms`)
    t.match(log.filter(({ msg }) => msg.includes('cannot be reached')), [{ level: 50, err: { message: reason } }])
    t.equal(log.length, 3, 'and once for each turn')
  })
}

t.test('a user that may run no scripts cannot save, and is told so', async (t) => {
  await admin.flushall()
  const { replies, errors } = await converse(t, urlOf('without-scripts'))
  t.match(replies, [{ status: 500, body: { code: 'FST_BOTAS_STATE_SAVE_FAILED' } }])
  t.match(errors, [{ cause: { message: /^Redis: a turn is saved by a script.*permit EVALSHA and EVAL.*NOPERM/ } }])
  t.equal(await admin.dbsize(), 0)
})

for (const command of ['EVALSHA', 'EVAL']) {
  t.test(`without the command ${command} a turn cannot be saved, and its error says so`, async (t) => {
    const { url } = await startRedis(t, ['--rename-command', command, ''])
    const { replies, errors } = await converse(t, url)
    t.match(replies, [{ status: 500, body: { code: 'FST_BOTAS_STATE_SAVE_FAILED' } }])
    t.match(errors, [{ cause: { message: new RegExp(`^Redis: a turn is saved by a script.*unknown command '${command}'$`, 'i') } }])
  })
}

t.test('a user of other keys cannot load, at once and without a word of what is stored', async (t) => {
  await admin.set(`botas:${CONVERSATION_KEY}`, '{"secret":"state-value"}')
  const { replies, errors, duration } = await converse(t, urlOf('stranger'))
  t.match(replies, [{ status: 500, body: { code: 'FST_BOTAS_STATE_LOAD_FAILED' } }])
  t.match(errors, [{ cause: { message: /^Redis: NOPERM/ } }])
  t.ok(duration < 400, `it took ${duration} ms`)
})

t.test('a user that may only read loads, and cannot save', async (t) => {
  await admin.set(`botas:${CONVERSATION_KEY}`, '{"secret":"state-value","count":7}')
  const { replies, errors } = await converse(t, urlOf('reader'))
  t.match(replies, [{ status: 500, body: { code: 'FST_BOTAS_STATE_SAVE_FAILED' } }])
  t.match(errors, [{ cause: { message: /NOPERM/ } }])
  t.equal(await admin.get(`botas:${CONVERSATION_KEY}`), '{"secret":"state-value","count":7}')
})
