import { execFile } from 'node:child_process'
import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { shellEnvironment } from '../helpers/node-process.js'
import { snippet } from '../helpers/pages.js'

const run = promisify(execFile)
const example = (path: string) => fileURLToPath(new URL(`../../example/${path}`, import.meta.url))

/** Says something twice, and makes the bot fail; what it answers, and what is stored in the end. */
const CONVERSATION = `
  const say = async (id, more) => {
    const activity = { type: 'message', id, channelId: 'test', recipient: { id: 'bot' }, conversation: { id: 'c' }, from: { id: 'u' }, deliveryMode: 'expectReplies', ...more }
    const { statusCode, body } = await app.inject({ method: 'POST', url: '/api/messages', payload: activity })
    console.log(statusCode, statusCode === 200 ? JSON.stringify(JSON.parse(body).activities?.map(({ text }) => text) ?? JSON.parse(body)) : '')
  }
  console.error = () => {}
  await say('1', { text: 'Hi' })
  await say('1', { text: 'Hi' })
  await say('2', { text: 'fail' })
  await say('2', { text: 'fail' })
  await say('3', { text: 'Hi' })
  for (let times = 0; times < 2; times++) await say('4', { type: 'invoke', name: 'test', deliveryMode: undefined })
  console.log(JSON.stringify((await storage.read(['test/bot/conversations/c']))['test/bot/conversations/c']))
  await app.close()`

/** Runs a block of the README with an SDK, where its packages are installed. */
async function output (t: Test, before: string, block: string): Promise<string> {
  const directory = t.testdir()
  symlinkSync(example('node_modules'), join(directory, 'node_modules'))
  const program = join(directory, 'program.ts')
  writeFileSync(program, `
    import Fastify from 'fastify'
    ${block.includes('import botasState') ? '' : "import botasState from 'fastify-botas-state'"}
    import { MemoryStorage } from 'fastify-botas-state'
    import { expressReply } from ${JSON.stringify(example('express-reply.ts'))}
    const app = Fastify()
    const storage = new MemoryStorage()
    const answer = ({ conversation }, text) => {
      const turn = conversation.update('turnCount', (n = 0) => n + 1)
      if (text === 'fail') throw new Error('no')
      return 'Turn #' + turn
    }
    ${before}
    ${block}
    ${CONVERSATION}`)
  const { stdout } = await run(process.execPath, [`--import=${import.meta.resolve('tsx')}`, program], { cwd: directory, env: shellEnvironment })
  return stdout
}

t.test('the block for the middleware of an SDK is a bot of the Bot Framework', async (t) => {
  t.equal(await output(t, `
    import { ActivityHandler, CloudAdapter, ConfigurationBotFrameworkAuthentication, INVOKE_RESPONSE_KEY } from 'botbuilder'
    const adapter = new CloudAdapter(new ConfigurationBotFrameworkAuthentication({}))
    const bot = new ActivityHandler()
    bot.onMessage(async (context, next) => {
      await context.sendActivity(answer(context.turnState.get('state'), context.activity.text))
      await next()
    })
    bot.onInvokeActivity = async (context) => ({ status: 200, body: { n: context.turnState.get('state').conversation.update('invokes', (n = 0) => n + 1) } })
  `, snippet('sdk-run')), [
    '200 ["Turn #1"]', '200 ["Turn #1"]', '500 ', '500 ', '200 ["Turn #2"]', '200 {"n":1}', '200 {"n":1}', '{"turnCount":2,"invokes":1}\n'
  ].join('\n'))
})

t.test('the block for the request is a bot of the Agents SDK', async (t) => {
  t.equal(await output(t, `
    import { AgentApplication, CloudAdapter } from '@microsoft/agents-hosting'
    const adapter = new CloudAdapter()
  `, snippet('sdk').replace('agent.onError(', `
    agent.onActivity('message', async (context) => {
      await context.sendActivity(answer(context.turnState.get('state'), context.activity.text))
    })
    agent.onActivity('invoke', async (context) => {
      const n = context.turnState.get('state').conversation.update('invokes', (n = 0) => n + 1)
      await context.sendActivity({ type: 'invokeResponse', value: { status: 200, body: { n } } })
    })
    agent.onError(`)), [
    '200 ["Turn #1"]', '200 ["Turn #1"]', '500 ', '500 ', '200 ["Turn #2"]', '200 {"n":1}', '200 {"n":1}', '{"turnCount":2,"invokes":1}\n'
  ].join('\n'))
})
