// A bot that takes three turns and closes: it begins to count, goes on and forgets. Argument: the URL of its storage.
// Prints its replies.
import Fastify from 'fastify'
import botasState from 'fastify-botas-state'

const app = Fastify({ logger: { level: 'warn' } })
await app.register(botasState, { storage: process.argv[2], flush: 'onSend' })
app.post('/', async ({ body: { text }, state: { conversation } }) => {
  if (text === 'forget') conversation.clear()
  else conversation.update('count', (count = 0) => count + 1)
  return conversation.toJSON()
})
for (const text of ['begin', 'go on', 'forget']) {
  const payload = { channelId: 'test', recipient: { id: 'bot' }, conversation: { id: 'conversation-1' }, text }
  console.log((await app.inject({ method: 'POST', url: '/', payload })).body)
}
await app.close()
