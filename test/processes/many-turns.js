// A bot that takes many turns in many conversations. Arguments: turns, conversations. After every tenth of the turns it
// prints a line of JSON: the bytes of the heap that are in use, and of memory that the process has.
import Fastify from 'fastify'
import botasState from 'fastify-botas-state'

const [turns, conversations] = process.argv.slice(2).map(Number)
const AT_ONCE = 50

const app = Fastify()
await app.register(botasState)
app.post('/', async ({ state: { conversation, user } }) => {
  conversation.update('count', (count = 0) => count + 1)
  user.update('count', (count = 0) => count + 1)
  return {}
})
await app.ready()

let next = 0
async function work (end) {
  while (next < end) {
    const id = String(next++ % conversations)
    await app.inject({ method: 'POST', url: '/', payload: { channelId: 'test', recipient: { id: 'bot' }, conversation: { id }, from: { id } } })
  }
}

for (let tenth = 1; tenth <= 10; tenth++) {
  await Promise.all(Array.from({ length: AT_ONCE }, () => work(turns * tenth / 10)))
  globalThis.gc()
  console.log(JSON.stringify({ heap: process.memoryUsage().heapUsed, resident: process.memoryUsage.rss() }))
}
await app.close()
