import { readdir } from 'node:fs/promises'
import type { FastifyInstance } from 'fastify'
import { FileStorage, type Storage, conversationKey, userKey } from 'fastify-botas-state'
import { failNext, talk } from 'fastify-botas-state/testing'
import t, { type Test } from 'tap'
import { buildBot } from '../../example/agents-sdk/bot.js'
import { foreignKey, startBotConnector, startTokenIssuer } from '../helpers/bot-connector.js'
import { sdkSuite } from '../helpers/sdk-suite.js'

const ADA = { channelId: 'msteams', botId: '28:bot', conversationId: '19:meeting', userId: '29:ada' }
const SORRY = 'Something went wrong, and I have forgotten it. Please say it again.'

/** The SDK reads the environment when it is loaded; in its test mode, for each adapter. */
async function start (t: Test, storage: Storage | string, env: Record<string, string> = {}): Promise<FastifyInstance> {
  Object.assign(process.env, { TEST_MODE: 'true', ...env })
  const app = await buildBot(storage)
  for (const name of Object.keys(env)) delete process.env[name]
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
  t.match(again, { statusCode: 200, headers: { 'botas-state': 'replayed' } })
  t.strictSame(again.json(), first.json())
})

t.test('where the handler throws, the user is told, and a second delivery is a new turn', async (t) => {
  const app = await start(t, 'memory:')
  const logged: unknown[] = []
  app.log.error = (error: unknown) => { logged.push(error) }
  const ada = talk(app, ADA)
  for (const response of [await ada.says('fail'), await ada.redelivers()]) {
    t.equal(response.statusCode, 200)
    t.strictSame(repliesIn(response), [SORRY])
  }
  t.match(logged, [/as it was asked to/, /as it was asked to/].map((message) => ({ message })))
  t.strictSame(await ada.state(), { conversation: {}, user: {} })
})

t.test('a save that fails is a 500: what the channel then delivers again is handled', async (t) => {
  const app = await start(t, 'memory:')
  const ada = talk(app, ADA)
  await failNext(app, 'save')
  t.equal((await ada.says('Hi')).statusCode, 500)
  t.strictSame(repliesIn(await ada.redelivers()), ['Turn #1: Hi'])
})

t.test('where the channel takes no replies, nothing is saved', async (t) => {
  const { url: serviceUrl } = await startBotConnector(t, 403)
  const ada = talk(await start(t, 'memory:'), ADA, { payload: ({ deliveryMode, ...said }) => ({ ...said, serviceUrl }) })
  t.equal((await ada.says('Hi')).statusCode, 500)
  t.strictSame(await ada.state(), { conversation: {}, user: {} })
})

t.test('an activity that is no message changes nothing', async (t) => {
  const ada = talk(await start(t, 'memory:'), ADA, { payload: (said) => ({ ...said, type: 'typing' }) })
  t.match(await ada.says(''), { statusCode: 200, body: '{"activities":[]}' })
  t.strictSame(await ada.state(), { conversation: {}, user: {} })
})

t.test('beside the documents of the plugin nothing is stored: the SDK needs no storage of its own', async (t) => {
  const directory = t.testdir()
  await talk(await start(t, new FileStorage(directory)), ADA).says('Hi')
  const files = [conversationKey(ADA), userKey(ADA)].map((key) => `${encodeURIComponent(key)}.json`)
  t.strictSame((await readdir(directory)).sort(), ['=handled', ...files].sort())
})

for (const [by, names] of Object.entries({
  '"clientId"': { clientId: 'clientId', authority: 'authorityEndpoint' },
  '"connections__…"': { clientId: 'connections__serviceConnection__settings__clientId', authority: 'connections__serviceConnection__settings__authorityEndpoint' }
})) {
  t.test(`with ${by} a stranger is refused, and nothing is loaded`, async (t) => {
    const issuer = await startTokenIssuer(t)
    const app = await start(t, 'memory:', { [names.clientId]: 'my-bot', [names.authority]: `${issuer.url}/tenant` })
    const say = (headers: Record<string, string>) => talk(app, ADA, { headers }).says('Hi')
    t.match(await say({}), { statusCode: 401, body: /authorization header not found/ })
    t.match(await say({ authorization: 'Basic YWRhOnBhc3M=' }), { statusCode: 401 })
    t.match(await say({ authorization: 'Bearer no.token' }), { statusCode: 401 })
    t.match(await say(issuer.authorization({ aud: 'another-bot' })), { statusCode: 401 })
    t.match(await say(issuer.authorization({ aud: 'my-bot', exp: 1 })), { statusCode: 401 })
    t.match(await say(issuer.authorization({ aud: 'my-bot' }, foreignKey())), { statusCode: 401 })
    t.equal(app.botasState.stats.loads, 0)
    t.strictSame(repliesIn(await say(issuer.authorization({ aud: 'my-bot' }))), ['Turn #1: Hi'])
    t.equal(app.botasState.stats.loads, 1)
  })
}
