import type { FastifyInstance } from 'fastify'
import type { Storage } from 'fastify-botas-state'
import { type Talk, failNext, talk } from 'fastify-botas-state/testing'
import t, { type Test } from 'tap'
import { startBotConnector } from './bot-connector.js'
import { sdkSuite } from './sdk-suite.js'

/** Who talks to the bots, and is answered where a handler has thrown. */
export const ADA = { channelId: 'msteams', botId: '28:bot', conversationId: '19:meeting', userId: '29:ada' }
export const SORRY = 'Something went wrong, and I have forgotten it. Please say it again.'

export type StartBot = (t: Test, storage: Storage | string, env?: Record<string, string>) => Promise<FastifyInstance>

/** Somebody in a channel that gets the replies at a `serviceUrl`. */
export function behind (app: FastifyInstance, serviceUrl: string, more: object = {}): Talk {
  return talk(app, ADA, { payload: ({ deliveryMode, ...said }) => ({ ...said, serviceUrl, ...more }) })
}

/** What a bot replied in its response. */
export function repliesIn ({ body }: { body: string }): unknown {
  return JSON.parse(body).activities.map(({ text }: { text: string }) => text)
}

/** What every bot shows whose SDK answers by the Bot Connector, or in the response where the channel expects that. */
export function connectorSuite (start: StartBot): void {
  sdkSuite(async (t, storage) => {
    const { url, sent } = await startBotConnector(t)
    const app = await start(t, storage)
    return { app, sent, ada: behind(app, url) }
  })

  t.test('what is said goes to where the activity came from, as a reply to it', async (t) => {
    const connector = await startBotConnector(t)
    const ada = behind(await start(t, 'memory:'), connector.url, { id: 'one' })
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

  t.test('a save that fails is a 500: what the channel then delivers again is handled', async (t) => {
    const app = await start(t, 'memory:')
    t.capture(console, 'error', () => {})
    const ada = talk(app, ADA)
    await failNext(app, 'save')
    t.equal((await ada.says('Hi')).statusCode, 500)
    t.strictSame(repliesIn(await ada.redelivers()), ['Turn #1: Hi'])
  })

  t.test('where the channel takes no replies, nothing is saved', async (t) => {
    const { url } = await startBotConnector(t, 403)
    t.capture(console, 'error', () => {})
    const ada = behind(await start(t, 'memory:'), url)
    t.equal((await ada.says('Hi')).statusCode, 500)
    t.strictSame(await ada.state(), { conversation: {}, user: {} })
  })

  t.test('an activity that is no message changes nothing', async (t) => {
    const ada = talk(await start(t, 'memory:'), ADA, { payload: (said) => ({ ...said, type: 'typing' }) })
    t.match(await ada.says(''), { statusCode: 200, body: '{"activities":[]}' })
    t.strictSame(await ada.state(), { conversation: {}, user: {} })
  })
}
