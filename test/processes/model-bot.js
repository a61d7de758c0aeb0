// A bot with a model that writes until its turn is replaced, a token every 10 ms. Prints its port, and closes on SIGTERM.
import { setTimeout as wait } from 'node:timers/promises'
import Fastify from 'fastify'
import botasState from 'fastify-botas-state'

const [storage, strategy, tokens] = process.argv.slice(2)
const asked = {}
const app = Fastify({ keepAliveTimeout: 100 })
app.register(botasState, { storage, concurrency: { strategy, lease: 1000 }, flush: 'onSend' })
app.get('/asked', async () => asked)
app.post('/', async ({ body: { text }, state: { conversation, signal } }) => {
  console.log(text)
  // One that nobody replaces finishes what it says, also while the server closes.
  const isUseless = () => strategy === 'replace' && signal.aborted
  for (asked[text] = 0; asked[text] < Number(tokens) && !isUseless(); asked[text]++) await wait(10)
  conversation.set(text, asked[text])
})
process.once('SIGTERM', () => app.close())
await app.listen({ host: '127.0.0.1', port: 0 })
console.log(app.server.address().port)
