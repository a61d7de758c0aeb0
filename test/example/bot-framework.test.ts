import type { FastifyInstance } from 'fastify'
import type { Storage } from 'fastify-botas-state'
import { failNext, talk } from 'fastify-botas-state/testing'
import t, { type Test } from 'tap'
import { buildBot } from '../../example/bot-framework/bot.js'
import { foreignKey, startBotConnector, startTokenIssuer } from '../helpers/bot-connector.js'
import { sdkSuite } from '../helpers/sdk-suite.js'

const ADA = { channelId: 'msteams', botId: '28:bot', conversationId: '19:meeting', userId: '29:ada' }
const SORRY = 'Something went wrong, and I have forgotten it. Please say it again.'

async function start (t: Test, storage: Storage | string, env: Record<string, string> = {}): Promise<FastifyInstance> {
  const app = await buildBot(storage, env)
  t.teardown(() => app.close())
  return app
}

/** What a bot replied in its response. */
function repliesIn ({ body }: { body: string }): unknown {
  return JSON.parse(body).activities.map(({ text }: { text: string }) => text)
}

sdkSuite(async (t, storage) => {
  const { url: serviceUrl, sent } = await startBotConnector(t)
  const app = await start(t, storage)
  return { app, sent, ada: talk(app, ADA, { payload: ({ deliveryMode, ...said }) => ({ ...said, serviceUrl }) }) }
})

t.test('what is said goes to where the activity came from, as a reply to it', async (t) => {
  const connector = await startBotConnector(t)
  const ada = talk(await start(t, 'memory:'), ADA, { payload: ({ deliveryMode, ...said }) => ({ ...said, id: 'one', serviceUrl: connector.url }) })
  t.match(await ada.says('Hi'), { statusCode: 200, body: '' })
  t.match(connector.replies, [{ type: 'message', text: 'Turn #1: Hi', replyToId: 'one', from: { id: ADA.botId }, recipient: { id: ADA.userId } }])
  // Nobody asks for a token where there is no authentication.
  t.strictSame(connector.authorizations, [undefined])
})

t.test('a channel that expects replies gets them in the response, again when it delivers again', async (t) => {
  const ada = talk(await start(t, 'memory:'), ADA)
  const first = await ada.says('Hi')
  t.match(first, { statusCode: 200, headers: { 'content-type': /^application\/json/ } })
  t.strictSame(repliesIn(first), ['Turn #1: Hi'])
  const again = await ada.redelivers()
  t.equal(again.statusCode, 200)
  t.strictSame(again.json(), first.json())
})

t.test('where the handler throws, the user is told, the SDK logs it, and a second delivery is a new turn', async (t) => {
  const connector = await startBotConnector(t)
  const ada = talk(await start(t, 'memory:'), ADA, { payload: ({ deliveryMode, ...said }) => ({ ...said, serviceUrl: connector.url }) })
  const errors = t.capture(console, 'error', () => {})
  t.match([await ada.says('fail'), await ada.redelivers()], [{ statusCode: 500 }, { statusCode: 500 }])
  t.match(errors(), Array(2).fill({ args: [{ message: /as it was asked to/ }] }))
  t.strictSame(connector.sent, [SORRY, SORRY])
  t.strictSame(await ada.state(), { conversation: {}, user: {} })
})

t.test('a save that fails is a 500: what the channel then delivers again is handled', async (t) => {
  const app = await start(t, 'memory:')
  t.capture(console, 'error', () => {})
  const ada = talk(app, ADA)
  await failNext(app, 'save')
  t.equal((await ada.says('Hi')).statusCode, 500)
  t.strictSame(repliesIn(await ada.redelivers()), ['Turn #1: Hi'])
})

t.test('where the channel takes no replies, nothing is saved', async (t) => {
  const { url: serviceUrl } = await startBotConnector(t, 403)
  const ada = talk(await start(t, 'memory:'), ADA, { payload: ({ deliveryMode, ...said }) => ({ ...said, serviceUrl }) })
  const errors = t.capture(console, 'error', () => {})
  t.equal((await ada.says('Hi')).statusCode, 500)
  t.match(errors(), [{ args: [{ statusCode: 403 }] }])
  t.strictSame(await ada.state(), { conversation: {}, user: {} })
})

t.test('an activity that is no message changes nothing', async (t) => {
  const ada = talk(await start(t, 'memory:'), ADA, { payload: (said) => ({ ...said, type: 'typing' }) })
  t.match(await ada.says(''), { statusCode: 200, body: '{"activities":[]}' })
  t.strictSame(await ada.state(), { conversation: {}, user: {} })
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
