import { readdir } from 'node:fs/promises'
import type { FastifyInstance } from 'fastify'
import { FileStorage, type Storage, conversationKey, userKey } from 'fastify-botas-state'
import { talk } from 'fastify-botas-state/testing'
import t, { type Test } from 'tap'
import { buildBot } from '../../example/agents-sdk/bot.js'
import { foreignKey, startTokenIssuer } from '../helpers/bot-connector.js'
import { ADA, SORRY, connectorSuite, repliesIn } from '../helpers/connector-suite.js'

/** The SDK reads the environment when it is loaded; in its test mode, for each adapter. */
async function start (t: Test, storage: Storage | string, env: Record<string, string> = {}): Promise<FastifyInstance> {
  Object.assign(process.env, { TEST_MODE: 'true', ...env })
  const app = await buildBot(storage)
  for (const name of Object.keys(env)) delete process.env[name]
  t.teardown(() => app.close())
  return app
}

connectorSuite(start)

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
