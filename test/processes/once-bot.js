// A bot that handles each activity once: it counts what each has done, in its conversation and for its user, and fails at random. Says
// what it has stored, for whom only it can ask.
import { setTimeout as wait } from 'node:timers/promises'
import Fastify from 'fastify'
import botasState from 'fastify-botas-state'
import { openStorage } from './open-storage.js'

const [storage, port, concurrency, flush, failing = '0.1'] = process.argv.slice(2)
const opened = openStorage(storage)
const fail = () => { if (Math.random() < Number(failing)) throw new Error('at random') }
const app = Fastify({ forceCloseConnections: true })
app.register(botasState, {
  storage: opened,
  concurrency: { strategy: concurrency, lease: 500, maxWaiting: 1000 },
  once: true,
  flush
})
let runs = 0
app.post('/', async ({ body: { id }, state: { conversation, user } }) => {
  const run = `${process.pid}-${runs++}`
  fail()
  await wait(Math.random() * 5)
  for (const scope of [conversation, user]) scope.update(id, (n = 0) => n + 1)
  fail()
  return { run }
})
app.get('/stored', async ({ query: { key } }) => (await opened.read([key]))[key] ?? {})
await app.listen({ port: Number(port), host: '127.0.0.1' })
console.log(`listening ${port}`)
process.on('SIGTERM', () => app.close())
