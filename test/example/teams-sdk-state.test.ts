import { randomUUID } from 'node:crypto'
// The packages of the examples are not found from here.
import { App, type HttpRouteHandler, type IHttpServerAdapter } from '../../example/node_modules/@microsoft/teams.apps/dist/index.js'
import t from 'tap'

const TRIES = 20
process.env.LOG_LEVEL = 'error'

/** What the README says of the state that the Teams SDK has of its own, measured. */
async function startBot () {
  let handler: HttpRouteHandler | undefined
  const httpServerAdapter: IHttpServerAdapter = { registerRoute: (_method, _path, route) => { handler = route } }
  const stored = new Map<string, string>()
  const storage = {
    get: (key: string) => stored.get(key),
    set: (key: string, value: string) => { stored.set(key, value) },
    delete: (key: string) => { stored.delete(key) }
  }
  const app = new App({ httpServerAdapter, dangerouslyAllowUnauthenticatedRequests: true, clientId: '', state: { storage } })
  app.on('message', async ({ activity, state }) => {
    const conversation = state?.conversation
    conversation?.set('count', Number(conversation.get('count') ?? 0) + 1)
    if (activity.text === 'fail') throw new Error('no')
  })
  await app.initialize()
  const say = (conversation: string, text: string) => handler?.({
    headers: {},
    body: {
      type: 'message', id: randomUUID(), text, channelId: 'msteams', serviceUrl: 'http://localhost', recipient: { id: 'bot' }, conversation: { id: conversation }, from: { id: 'ada' }
    }
  })
  const count = (conversation: string) => JSON.parse(stored.get(`ts:conv:${conversation}`) ?? '{}').count
  return { say, count }
}

t.test('the ctx.state of the Teams SDK keeps what a turn changed that has thrown', async (t) => {
  t.capture(console, 'error', () => {})
  const { say, count } = await startBot()
  for (let n = 0; n < TRIES; n++) {
    t.equal((await say(`c${n}`, 'fail'))?.status, 500)
    t.equal(count(`c${n}`), 1)
  }
})

t.test('the ctx.state of the Teams SDK loses one of two updates at once', async (t) => {
  const { say, count } = await startBot()
  for (let n = 0; n < TRIES; n++) {
    await Promise.all([say(`c${n}`, 'a'), say(`c${n}`, 'b')])
    t.equal(count(`c${n}`), 1)
  }
})
