// A bot with a model that writes until its turn is aborted, a token every 10 ms. Prints its port, and closes on SIGTERM.
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
  asked[text] = 0
  while (asked[text] < Number(tokens) && (strategy === 'queue' || !signal.aborted)) {
    await wait(10)
    asked[text]++
  }
  conversation.set(text, asked[text])
})
process.once('SIGTERM', () => app.close())
await app.listen({ host: '127.0.0.1', port: 0 })
console.log(app.server.address().port)
