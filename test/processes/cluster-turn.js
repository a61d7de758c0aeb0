// Runs one turn on a Cluster and closes. Arguments: the storage URL, and loadTimeout. Prints what became of the turn, and
// the milliseconds that closing took.
import Fastify from 'fastify'
import botasState from 'fastify-botas-state'

const [storage, loadTimeout] = process.argv.slice(2)

const app = Fastify()
await app.register(botasState, { storage, loadTimeout: Number(loadTimeout) })
await app.ready()
const outcome = await app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: '1', userId: '1' }, ({ conversation, user }) => {
  conversation.set('kept', true)
  user.set('kept', true)
}).then(() => 'saved', ({ code }) => code)
console.log(outcome)
const begun = performance.now()
await app.close()
console.log(Math.round(performance.now() - begun))
