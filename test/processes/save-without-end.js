// A bot on files that saves as fast as it can, until it is killed. Argument: the directory. Prints the number of every
// turn that was answered, which with `flush: 'onSend'` was saved before.
import Fastify from 'fastify'
import botasState, { FileStorage } from 'fastify-botas-state'

const app = Fastify()
await app.register(botasState, { storage: new FileStorage(process.argv[2]), flush: 'onSend' })
app.post('/', async ({ state: { conversation } }) => ({
  // Long enough that a write takes a while.
  count: conversation.update('count', (count = 0) => count + 1),
  padding: conversation.set('padding', 'x'.repeat(50_000 + Math.random() * 50_000))
}))
await app.ready()

const payload = { channelId: 'test', recipient: { id: 'bot' }, conversation: { id: 'conversation-1' } }
while (true) {
  const reply = await app.inject({ method: 'POST', url: '/', payload })
  process.stdout.write(`${reply.json().count}\n`)
}
