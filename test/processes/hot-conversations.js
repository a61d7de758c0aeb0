// Runs turns on a few conversations that other processes use at the same time. Arguments: a storage, own name, turns,
// conversations, and how many turns at once. Prints the longest time that one turn took, in milliseconds.
import Fastify from 'fastify'
import botasState from 'fastify-botas-state'
import { openStorage } from './open-storage.js'

const [url, name, turns, conversations, concurrency] = process.argv.slice(2)

const app = Fastify()
await app.register(botasState, { storage: openStorage(url) })
let next = 0
let longest = 0

async function work () {
  while (next < Number(turns)) {
    const turn = next++
    const identity = { channelId: 'test', botId: 'bot', conversationId: String(turn % Number(conversations)), userId: name }
    const before = performance.now()
    await app.botasState.run(identity, ({ conversation, user }) => {
      conversation.update('count', (count = 0) => count + 1)
      conversation.set(`process-${name}`, turn)
      user.update('count', (count = 0) => count + 1)
    })
    longest = Math.max(longest, performance.now() - before)
  }
}

await Promise.all(Array.from({ length: Number(concurrency) }, work))
await app.close()
console.log(Math.round(longest))
