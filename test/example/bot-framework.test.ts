import type { FastifyInstance } from 'fastify'
import type { Storage } from 'fastify-botas-state'
import { talk } from 'fastify-botas-state/testing'
import t, { type Test } from 'tap'
import { buildBot } from '../../example/bot-framework/bot.js'
import { foreignKey, startBotConnector, startTokenIssuer } from '../helpers/bot-connector.js'
import { ADA, SORRY, behind, connectorSuite, repliesIn } from '../helpers/connector-suite.js'

async function start (t: Test, storage: Storage | string, env: Record<string, string> = {}): Promise<FastifyInstance> {
  const app = await buildBot(storage, env)
  t.teardown(() => app.close())
  return app
}

connectorSuite(start)

t.test('where the handler throws, the user is told, the SDK logs it, and a second delivery is a new turn', async (t) => {
  const connector = await startBotConnector(t)
  const ada = behind(await start(t, 'memory:'), connector.url)
  const errors = t.capture(console, 'error', () => {})
  t.match([await ada.says('fail'), await ada.redelivers()], [{ statusCode: 500 }, { statusCode: 500 }])
  t.match(errors(), Array(2).fill({ args: [{ message: /as it was asked to/ }] }))
  t.strictSame(connector.sent, [SORRY, SORRY])
  t.strictSame(await ada.state(), { conversation: {}, user: {} })
})

t.test('answers that are too long to be kept are no trouble to a second delivery', async (t) => {
  const ada = talk(await start(t, 'memory:'), ADA)
  const long = 'x'.repeat(20_000)
  t.strictSame(repliesIn(await ada.says(long)), [`Turn #1: ${long}`])
  const again = await ada.redelivers()
  t.equal(again.statusCode, 200)
  t.strictSame(repliesIn(again), [])
})

t.test('with "MicrosoftAppId" a stranger is refused, and nothing is loaded', async (t) => {
  const issuer = await startTokenIssuer(t)
  const app = await start(t, 'memory:', {
    MicrosoftAppId: 'my-bot',
    MicrosoftAppPassword: 'secret',
    ToChannelFromBotLoginUrl: `${issuer.url}/tenant`,
    ToChannelFromBotOAuthScope: 'https://api.botframework.com',
    ToBotFromChannelTokenIssuer: 'https://api.botframework.com',
    ToBotFromChannelOpenIdMetadataUrl: `${issuer.url}/.well-known/openid-configuration`,
    ToBotFromEmulatorOpenIdMetadataUrl: `${issuer.url}/.well-known/openid-configuration`,
    OAuthUrl: issuer.url
  })
  t.capture(console, 'error', () => {})
  const claims = { iss: 'https://api.botframework.com', aud: 'my-bot' }
  const say = (headers: Record<string, string>) => talk(app, ADA, { headers }).says('Hi')
  t.match(await say({}), { statusCode: 401, body: /not authorized/ })
  t.match(await say({ authorization: 'Basic YWRhOnBhc3M=' }), { statusCode: 401 })
  t.match(await say({ authorization: 'Bearer no.token' }), { statusCode: 401 })
  t.match(await say(issuer.authorization({ ...claims, iss: 'somebody' })), { statusCode: 401 })
  t.match(await say(issuer.authorization({ ...claims, aud: 'another-bot' })), { statusCode: 401 })
  t.match(await say(issuer.authorization({ ...claims, exp: 1 })), { statusCode: 401 })
  // For a forged token the SDK answers 500.
  t.match(await say(issuer.authorization(claims, foreignKey())), { statusCode: 500, body: 'invalid signature' })
  t.equal(app.botasState.stats.loads, 0)
  t.strictSame(repliesIn(await say(issuer.authorization(claims))), ['Turn #1: Hi'])
  t.equal(app.botasState.stats.loads, 1)
})
