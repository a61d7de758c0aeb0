// A bot that handles each activity once: it counts what each has done, in its conversation and for its user, and fails at random.
import { setTimeout as wait } from 'node:timers/promises'
import Fastify from 'fastify'
import botasState, { FileStorage } from 'fastify-botas-state'
import { RedisStorage } from 'fastify-botas-state/redis'

const [storage, port, concurrency, flush] = process.argv.slice(2)
const app = Fastify({ forceCloseConnections: true })
app.register(botasState, {
  storage: storage.startsWith('redis') ? new RedisStorage(storage) : new FileStorage(storage),
  concurrency: { strategy: concurrency, lease: 500, maxWaiting: 1000 },
  once: true,
  flush
})
let runs = 0
app.post('/', async ({ body: { id }, state: { conversation, user } }) => {
  const run = `${process.pid}-${runs++}`
  if (Math.random() < 0.1) throw new Error('at random')
  await wait(Math.random() * 5)
  for (const scope of [conversation, user]) scope.update(id, (n = 0) => n + 1)
  if (Math.random() < 0.1) throw new Error('at random')
  return { run }
})
await app.listen({ port: Number(port), host: '127.0.0.1' })
console.log('listening')
process.on('SIGTERM', () => app.close())
