import { createHmac } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import Fastify, { type FastifyInstance, type LightMyRequestResponse } from 'fastify'
import { MemoryStorage, type Storage } from 'fastify-botas-state'
import { failNext, type Said, type Talk, talk } from 'fastify-botas-state/testing'
import t, { type Test } from 'tap'
import { buildBot } from '../../example/bolt/bot.js'
import { settled } from '../helpers/build-fastify.js'
import { type SdkBot, sdkSuite } from '../helpers/sdk-suite.js'

const url = '/slack/events'

sdkSuite((t, storage) => start(t, storage))

t.test('Slack\'s challenge is answered', async (t) => {
  const { app } = await start(t)
  const response = await app.inject({ method: 'POST', url, payload: { type: 'url_verification', challenge: 'abc' } })
  t.equal(response.statusCode, 200)
  t.strictSame(response.json(), { challenge: 'abc' })
})

t.test('an event of Slack\'s is acknowledged before the work is done, and the work is saved whole', async (t) => {
  const { app, ada, sent } = await start(t)
  acknowledged(t, await ada.says('slow'))
  t.strictSame(sent, [])
  t.equal(app.botasState.stats.openTurns, 1)
  t.strictSame(await ada.state(), { conversation: { turnCount: 1 }, user: { lastWords: 'slow' } })
  t.strictSame(sent, ['Turn #1: slow'])
})

t.test('the next message is acknowledged at once as well, and sees what the slow one has stored', async (t) => {
  const { ada, sent } = await start(t)
  await ada.says('slow')
  acknowledged(t, await ada.says('Hi'))
  t.strictSame(sent, [], 'the slow one is still at work')
  t.match(await ada.state(), { conversation: { turnCount: 2 } })
  t.strictSame(sent, ['Turn #1: slow', 'Turn #2: Hi'])
})

t.test('a retry that meets the first delivery at work is acknowledged at once, and runs nothing', async (t) => {
  const { app, ada, sent } = await start(t)
  await ada.says('slow')
  acknowledged(t, await ada.redelivers())
  t.strictSame(sent, [], 'the first one is still at work')
  t.match(await ada.state(), { conversation: { turnCount: 1 } })
  t.strictSame(sent, ['Turn #1: slow'])
  t.equal(app.botasState.stats.replayedTurns, 1)
})

t.test('a retry after the first delivery runs nothing', async (t) => {
  const { app, ada, sent } = await start(t)
  await ada.says('slow')
  await ada.state()
  acknowledged(t, await ada.redelivers())
  t.match(await ada.state(), { conversation: { turnCount: 1 } })
  t.strictSame(sent, ['Turn #1: slow'])
  t.equal(app.botasState.stats.replayedTurns, 1)
})

t.test('a retry that waits for a delivery that fails handles the event itself', async (t) => {
  const { ada, sent } = await start(t, undefined, { refused: 'Turn #1: slow' })
  await ada.says('slow')
  acknowledged(t, await ada.redelivers())
  t.strictSame(await ada.state(), { conversation: { turnCount: 1 }, user: { lastWords: 'slow' } })
  t.strictSame(sent, ['Turn #1: slow'])
})

t.test('an error of a listener is logged once, after the acknowledgement', async (t) => {
  const { app, ada, sent } = await start(t)
  const logged = t.capture(app.log, 'error')
  acknowledged(t, await ada.says('fail'))
  t.strictSame(await ada.state(), { conversation: {}, user: {} })
  const calls = await settledCalls(logged)
  t.equal(calls.length, 1)
  t.match(calls, [[{ message: /^The bot failed/, stack: /answer\.ts/ }]])
  t.strictSame(sent, [])
})

t.test('where Slack takes no answer, nothing is stored', async (t) => {
  const { app, ada } = await start(t, undefined, { refused: 'Turn #1: Hi' })
  const logged = t.capture(app.log, 'error')
  await ada.says('Hi')
  t.strictSame(await ada.state(), { conversation: {}, user: {} })
  t.match(await settledCalls(logged), [[{ message: /msg_too_long/ }]])
})

t.test('a save that fails is logged, and the event can be delivered again', async (t) => {
  const { app, ada, sent } = await start(t)
  await failNext(app, 'save')
  const logged = t.capture(app.log, 'error')
  await ada.says('Hi')
  t.strictSame(await ada.state(), { conversation: {}, user: {} })
  t.match(await settledCalls(logged), [[{ code: 'FST_BOTAS_STATE_SAVE_FAILED' }]])
  await ada.redelivers()
  t.match(await ada.state(), { conversation: { turnCount: 1 } })
  t.strictSame(sent, ['Turn #1: Hi', 'Turn #1: Hi'], 'what was sent cannot be taken back')
})

t.test('closing the server waits for work that was acknowledged', async (t) => {
  const storage = new MemoryStorage()
  const { app, ada, sent } = await start(t, storage)
  await ada.says('slow')
  await app.close()
  t.strictSame(sent, ['Turn #1: slow'])
  const after = await start(t, storage)
  t.match(await after.ada.state(), { conversation: { turnCount: 1 } })
})

t.test('the bot does not answer itself, and other events leave no trace', async (t) => {
  const { app, ada, sent } = await start(t)
  const logged = t.capture(app.log, 'error')
  for (const event of [
    { type: 'message', channel: 'C1', user: 'UBOT', text: 'Turn #1: Hi', ts: '1.0' },
    { type: 'message', subtype: 'message_changed', channel: 'C1', message: { user: 'U1', text: 'Hi!' }, ts: '1.0' },
    { type: 'reaction_added', user: 'U1', reaction: 'wave', item: { type: 'message', channel: 'C1', ts: '1.0' }, event_ts: '1.0' },
    { type: 'channel_created', channel: { id: 'C1', creator: 'U1' } },
    { type: 'team_join', user: { id: 'U1' } }
  ]) acknowledged(t, await app.inject({ method: 'POST', url, payload: envelope('Ev1', event) }))
  t.strictSame(await ada.state(), { conversation: {}, user: {} })
  t.strictSame(sent, [])
  t.strictSame(logged.args(), [])
})

t.test('what is no event is refused, and the bot lives on', async (t) => {
  const { app, ada } = await start(t)
  const post = async (payload: string, type = 'application/json'): Promise<number> =>
    (await app.inject({ method: 'POST', url, payload, headers: { 'content-type': type } })).statusCode
  t.equal(await post('{}'), 404)
  t.equal(await post('{'), 400)
  t.equal(await post('null'), 400)
  t.equal(await post('{}', 'text/plain'), 400)
  t.equal(await post('{}', 'text/html'), 415)
  t.equal((await app.inject({ method: 'POST', url })).statusCode, 400)
  t.equal(await post('command=%2Fhi&api_app_id=A1&team_id=T1&channel_id=C1&user_id=U1', 'application/x-www-form-urlencoded'), 404, 'no listener')
  await ada.says('Hi')
  t.match(await ada.state(), { conversation: { turnCount: 1 } })
})

t.test('with SLACK_SIGNING_SECRET', async (t) => {
  const secret = 'the secret of this test'
  const body = JSON.stringify(messageEvent('Ev1', 'Hi'))
  const now = Math.floor(Date.now() / 1000)

  t.test('a stranger is refused, and nothing is loaded', async (t) => {
    const { app, ada, sent } = await start(t, undefined, { secret })
    const tampered = body.replace('Hi', 'fail')
    for (const [payload, headers] of [
      [body, {}],
      [body, signed(body, 'another secret', now)],
      [tampered, signed(body, secret, now)],
      [body, signed(body, secret, now - 6 * 60)],
      [body, { ...signed(body, secret, now), 'x-slack-signature': 'v0=' }],
      ['{', {}]
    ] as const) {
      const response = await app.inject({ method: 'POST', url, payload, headers: { 'content-type': 'application/json', ...headers } })
      t.equal(response.statusCode, 401, response.body)
    }
    t.equal((await app.inject({ method: 'POST', url, payload: body, headers: { 'content-type': 'text/plain' } })).statusCode, 400)
    t.equal(app.botasState.stats.loads, 0)
    t.strictSame(await ada.state(), { conversation: {}, user: {} })
    t.strictSame(sent, [])
  })

  t.test('Slack is let in', async (t) => {
    const { app, ada, sent } = await start(t, undefined, { secret })
    // Slack escapes what JSON.stringify does not: it is the text that is signed.
    const text = body.replace('Hi', '\\u0048i')
    const headers = { 'content-type': 'application/json', ...signed(text, secret, now) }
    acknowledged(t, await app.inject({ method: 'POST', url, payload: text, headers }))
    t.match(await ada.state(), { conversation: { turnCount: 1 }, user: { lastWords: 'Hi' } })
    t.strictSame(sent, ['Turn #1: Hi'])
  })
})

/** What `t.capture` gives. */
interface Logged {
  calls: Array<{ args: unknown[] }>
}

interface Given {
  secret?: string
  /** an answer that Slack takes only when it is sent again */
  refused?: string
}

async function start (t: Test, storage: Storage = new MemoryStorage(), { secret, refused = '' }: Given = {}): Promise<SdkBot> {
  const { slackApiUrl, sent } = await startSlack(t, refused)
  const app = await buildBot(storage, {
    SLACK_BOT_TOKEN: 'xoxb-1', SLACK_API_URL: slackApiUrl, ...secret !== undefined && { SLACK_SIGNING_SECRET: secret }
  })
  t.teardown(() => app.close())
  return { app, ada: adaOf(app), sent }
}

function adaOf (app: FastifyInstance): Talk {
  return talk(app, { channelId: 'slack', botId: 'A1', conversationId: 'C1', userId: 'U1' }, {
    url, payload: ({ id, text }: Said) => messageEvent(id, text)
  })
}

function messageEvent (id: string, text: string): object {
  return envelope(id, { type: 'message', channel: 'C1', user: 'U1', text, ts: '1.0', channel_type: 'im' })
}

function envelope (id: string, event: object): object {
  return { token: 'x', team_id: 'T1', api_app_id: 'A1', type: 'event_callback', event_id: id, event_time: 1, event }
}

function signed (body: string, secret: string, timestamp: number): Record<string, string> {
  const hash = createHmac('sha256', secret).update(`v0:${timestamp}:${body}`).digest('hex')
  return { 'x-slack-request-timestamp': String(timestamp), 'x-slack-signature': `v0=${hash}` }
}

/** Slack's Web API, as far as the bot uses it. */
async function startSlack (t: Test, refused: string): Promise<{ slackApiUrl: string, sent: string[] }> {
  const sent: string[] = []
  const refusals = new Set([refused])
  const slack = Fastify({ forceCloseConnections: true })
  slack.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) => {
    done(null, Object.fromEntries(new URLSearchParams(body.toString())))
  })
  slack.post('/api/auth.test', async ({ headers }) => headers.authorization === 'Bearer xoxb-1'
    ? { ok: true, url: 'https://x.slack.com/', team: 'X', user: 'bot', team_id: 'T1', user_id: 'UBOT', bot_id: 'B1' }
    : { ok: false, error: 'invalid_auth' })
  slack.post<{ Body: { channel: string, text: string } }>('/api/chat.postMessage', async ({ body: { channel, text } }) => {
    if (refusals.delete(text)) return { ok: false, error: 'msg_too_long' }
    sent.push(text)
    return { ok: true, channel, ts: '2.0', message: { text } }
  })
  await slack.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => slack.close())
  return { slackApiUrl: `${slack.listeningOrigin}/api/`, sent }
}

/** What was logged. The turn is over a moment before. */
async function settledCalls ({ calls }: Logged): Promise<unknown[][]> {
  await settled(() => calls.length > 0)
  await setImmediate()
  return calls.map(({ args }) => args)
}

function acknowledged (t: Test, { statusCode, body }: LightMyRequestResponse): void {
  t.strictSame({ statusCode, body }, { statusCode: 200, body: '' })
}
