import type { KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import https from 'node:https'
import Fastify from 'fastify'
import type { Storage } from 'fastify-botas-state'
import { failNext, talk } from 'fastify-botas-state/testing'
import t, { type Test } from 'tap'
import { buildBot } from '../../example/teams-sdk/bot.js'
import { rsaKeys, signed } from '../helpers/bot-connector.js'
import { authorityPath, certificatePath } from '../helpers/certificates.js'
import { sdkSuite } from '../helpers/sdk-suite.js'

const ids = { channelId: 'msteams', botId: '28:bot', conversationId: '19:meeting@thread.v2', userId: '29:ada' }
const nothing = { conversation: {}, user: {} }

// The warning that nobody has to authenticate is not news here.
process.env.LOG_LEVEL = 'error'

sdkSuite(startBot)

t.test('what a handler throws becomes a 500, which the SDK logs once, and the message is handled when it comes again', async (t) => {
  const { ada, sent } = await startBot(t)
  const log = t.capture(console, 'error')
  const failed = await ada.says('fail')
  t.match(failed, { statusCode: 500, body: '' })
  t.equal((await ada.redelivers()).statusCode, 500)
  t.match(log().map(({ args }) => args.at(-1)), [/^The bot failed/, /^The bot failed/])
  t.strictSame(await ada.state(), nothing)
  t.strictSame(sent, [])
})

t.test('a turn whose answer Teams refuses is not saved, and runs again', async (t) => {
  const { ada, sent, refuse } = await startBot(t)
  t.capture(console, 'error')
  refuse(1)
  t.equal((await ada.says('Hi')).statusCode, 500)
  t.strictSame(await ada.state(), nothing)
  t.equal((await ada.redelivers()).statusCode, 200)
  t.strictSame(sent, ['Turn #1: Hi'])
  t.match(await ada.state(), { conversation: { turnCount: 1 } })
})

t.test('a turn that cannot be saved becomes a 500, and runs again', async (t) => {
  const { app, ada } = await startBot(t)
  const log = t.capture(console, 'error')
  await failNext(app, 'save')
  t.equal((await ada.says('Hi')).statusCode, 500)
  t.match(log().map(({ args }) => args.at(-1)), [/^the state could not be saved/])
  t.equal((await ada.redelivers()).statusCode, 200)
  t.match(await ada.state(), { conversation: { turnCount: 1 } })
})

t.test('a message that is delivered again while it is at work waits for that, and is answered once', async (t) => {
  const { ada, sent } = await startBot(t)
  const [first, second] = await Promise.all([ada.says('slow'), ada.redelivers()])
  t.strictSame([first.statusCode, second.statusCode], [200, 200])
  t.strictSame(sent, ['Turn #1: slow'])
  t.match(await ada.state(), { conversation: { turnCount: 1 } })
})

t.test('that a message was edited or deleted is no redelivery of it', async (t) => {
  const { app, says } = await startBot(t)
  for (const [type, eventType] of [['message'], ['messageUpdate', 'editMessage'], ['messageUpdate', 'editMessage'], ['messageDelete', 'softDeleteMessage']]) {
    t.equal((await says({ type, id: '1', text: 'Hi', channelData: { eventType } })).statusCode, 200)
    t.equal(app.botasState.stats.replayedTurns, 0)
  }
  await says({ type: 'message', id: '1', text: 'Hi' })
  t.equal(app.botasState.stats.replayedTurns, 1)
})

t.test('with CLIENT_ID a stranger is refused, and nothing is loaded', async (t) => {
  const { app, ada, sent } = await startBot(t, 'memory:', { CLIENT_ID: 'bot', CLIENT_SECRET: 'secret', TENANT_ID: 'tenant' })
  t.match(await ada.says('Hi'), { statusCode: 401, body: /Missing authorization header/ })
  t.equal(app.botasState.stats.loads, 0)
  t.strictSame(await ada.state(), nothing)
  t.strictSame(sent, [])
})

t.test('with CLIENT_ID a message that Teams has signed is answered; a stranger gets nothing of it, nor keeps it from being handled', async (t) => {
  const microsoft = await startMicrosoft(t)
  const { app, ada, sent, authorizations, headers, serviceUrl } = await startBot(t, 'memory:', { CLIENT_ID: 'bot' })
  const log = t.capture(console, 'error')

  for (const authorization of [
    undefined,
    'Bearer none',
    `Bearer ${microsoft.forged({ aud: 'bot', serviceurl: serviceUrl })}`,
    `Bearer ${microsoft.token({ aud: 'another bot', serviceurl: serviceUrl })}`,
    `Bearer ${microsoft.token({ aud: 'bot', serviceurl: 'http://elsewhere' })}`,
    `Bearer ${microsoft.token({ aud: 'bot', serviceurl: serviceUrl, exp: 1 })}`
  ]) {
    headers.authorization = authorization ?? ''
    t.equal((await ada.says('Hi')).statusCode, 401)
  }
  t.ok(log().length > 0)
  t.equal(app.botasState.stats.loads, 0)

  // The stranger's was the first delivery of that id.
  headers.authorization = `Bearer ${microsoft.token({ aud: 'bot', serviceurl: serviceUrl })}`
  t.equal((await ada.redelivers()).statusCode, 200)
  t.strictSame(sent, ['Turn #1: Hi'])
  t.strictSame(authorizations, [`Bearer ${microsoft.tokenOfBot}`])
  const { loads } = app.botasState.stats

  headers.authorization = ''
  t.match(await ada.redelivers(), { statusCode: 401, headers: { 'botas-state': undefined } })
  t.equal(app.botasState.stats.loads, loads)
  t.match(await ada.state(), { conversation: { turnCount: 1 } })
})

/** A bot, and a server in place of the one of Teams that it sends to. */
async function startBot (t: Test, storage: Storage | string = 'memory:', env: NodeJS.ProcessEnv = {}) {
  const sent: string[] = []
  const authorizations: unknown[] = []
  const headers: Record<string, string> = {}
  let refusals = 0
  const teams = Fastify({ forceCloseConnections: true })
  teams.post<{ Body: { text: string } }>('/v3/conversations/:conversationId/activities', async ({ body, headers }, reply) => {
    if (refusals-- > 0) return reply.code(502).send()
    sent.push(body.text)
    authorizations.push(headers.authorization)
    return { id: `sent-${sent.length}` }
  })
  const serviceUrl = await listening(t, teams)
  const app = await buildBot(storage, env)
  t.teardown(() => app.close())
  const ada = talk(app, ids, { headers, payload: (said) => ({ ...said, serviceUrl }) })
  const { channelId, botId, conversationId, userId } = ids
  const says = (activity: object) => app.inject({
    method: 'POST',
    url: '/api/messages',
    payload: { channelId, serviceUrl, recipient: { id: botId }, conversation: { id: conversationId }, from: { id: userId }, ...activity }
  })
  return { app, ada, says, sent, authorizations, headers, serviceUrl, refuse: (count: number) => { refusals = count } }
}

/**
 * Servers in place of login.botframework.com, which has the keys of Teams, and of the endpoint at which a bot in Azure gets a token
 * by its managed identity.
 */
async function startMicrosoft (t: Test) {
  const [teams, stranger] = [rsaKeys(), rsaKeys()]
  const jwk = { ...teams.publicKey.export({ format: 'jwk' }), kid: 'teams', use: 'sig', alg: 'RS256' }
  const tokenOfBot = signed({ aud: 'https://api.botframework.com' }, teams.privateKey, 'teams')

  const certificate = readFileSync(certificatePath)
  const login = Fastify({ https: { key: certificate, cert: certificate }, forceCloseConnections: true })
  login.get('/v1/.well-known/keys', async () => ({ keys: [jwk] }))
  const { port } = new URL(await listening(t, login))
  const { globalAgent } = https
  https.globalAgent = new https.Agent({ host: '127.0.0.1', port: Number(port), servername: 'localhost', ca: readFileSync(authorityPath) })
  t.teardown(() => { https.globalAgent = globalAgent })

  const identity = Fastify({ forceCloseConnections: true })
  identity.get('/token', async () => ({ access_token: tokenOfBot, token_type: 'Bearer', expires_on: Math.floor(Date.now() / 1000) + 3600 }))
  process.env.IDENTITY_ENDPOINT = `${await listening(t, identity)}/token`
  process.env.IDENTITY_HEADER = 'secret'
  t.teardown(() => {
    delete process.env.IDENTITY_ENDPOINT
    delete process.env.IDENTITY_HEADER
  })

  const tokenBy = (key: KeyObject) => (claims: object) => signed({ iss: 'https://api.botframework.com', ...claims }, key, 'teams')
  return { tokenOfBot, token: tokenBy(teams.privateKey), forged: tokenBy(stranger.privateKey) }
}

/** Listens on a free loopback port until the test is over, and gives the address. */
async function listening (t: Test, server: { listen (options: { host: string, port: number }): Promise<string>, close (): Promise<void> }): Promise<string> {
  t.teardown(() => server.close())
  return server.listen({ host: '127.0.0.1', port: 0 })
}
