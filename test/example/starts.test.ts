import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { type BotProcess, startExample } from '../helpers/bot-process.js'
import { settled } from '../helpers/build-fastify.js'
import { freePort } from '../helpers/free-port.js'

/** Does what the printed command says, and gives what it would show. */
async function curl (bot: BotProcess): Promise<string> {
  const [, url, body] = /curl (\S+) -H 'content-type: application\/json' -d '(.*)'$/m.exec(bot.output()) as unknown as [string, string, string]
  const reply = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
  return `${reply.status} ${await reply.text()}`
}

async function stops (t: Test, bot: BotProcess): Promise<void> {
  t.equal(await bot.stop(), 0)
}

for (const name of ['agents-sdk', 'bot-framework']) {
  t.test(`${name}: as its users start it, it answers in the response, and remembers after a restart`, async (t) => {
    const directory = t.testdir()
    for (const turn of [1, 2]) {
      const bot = await startExample(t, `${name}/main.ts`, directory)
      t.match(await curl(bot), new RegExp(`^200 .*"Turn #${turn}: How are you\\?"`))
      await stops(t, bot)
    }
  })

  t.test(`${name}: with its authentication switched on, the printed command is refused`, async (t) => {
    const credentials = { clientId: 'my-bot', MicrosoftAppId: 'my-bot', MicrosoftAppPassword: 'secret' }
    const bot = await startExample(t, `${name}/main.ts`, t.testdir(), credentials)
    t.match(await curl(bot), /^401 /)
    await stops(t, bot)
  })
}

t.test('teams-sdk: as its users start it, it shows its answers in place of Teams, and remembers after a restart', async (t) => {
  const directory = t.testdir()
  for (const turn of [1, 2]) {
    const bot = await startExample(t, 'teams-sdk/main.ts', directory, { PORT: String(await freePort()), HOST: 'localhost' })
    t.equal(await curl(bot), '200 ')
    await settled(() => bot.output().includes(`Turn #${turn}: Hello\n`))
    await stops(t, bot)
  }
})

t.test('bolt: as its users start it, it answers in Slack, and remembers after a restart', async (t) => {
  const sent: string[] = []
  const slack = Fastify({ forceCloseConnections: true })
  t.teardown(() => slack.close())
  slack.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) => done(null, new URLSearchParams(String(body))))
  slack.post('/auth.test', async () => ({ ok: true, url: 'https://x.slack.com/', team_id: 'T1', user_id: 'UBOT', bot_id: 'B1' }))
  slack.post<{ Body: URLSearchParams }>('/chat.postMessage', async ({ body }) => {
    sent.push(String(body.get('text')))
    return { ok: true, ts: '2.0' }
  })
  const url = await slack.listen({ host: '127.0.0.1', port: 0 })
  const env = { SLACK_BOT_TOKEN: 'xoxb-1', SLACK_API_URL: `${url}/` }
  const directory = t.testdir()
  for (const turn of [1, 2]) {
    const bot = await startExample(t, 'bolt/main.ts', directory, env)
    // The same event twice is one that Slack delivers again.
    for (let delivery = 0; delivery < 2; delivery++) t.equal(await curl(bot), '200 ')
    await settled(() => sent.length === turn)
    await stops(t, bot)
    t.equal(sent.at(-1), `Turn #${turn}: How are you?`)
  }
  t.equal(sent.length, 2)
})
