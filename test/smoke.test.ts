import Fastify from 'fastify'
import t from 'tap'
import botasState, { MemoryStorage } from '../lib/index.js'

t.test('a second turn finds what the first one set', async (t) => {
  const app = Fastify()
  const storage = new MemoryStorage()
  await app.register(botasState, { storage })
  app.post('/', async (request) => {
    const { conversation } = request.state
    return { n: conversation.update<number>('n', (n) => (n ?? 0) + 1) }
  })
  const payload = { channelId: 'c', recipient: { id: 'b' }, conversation: { id: 'x' } }
  for (const n of [1, 2, 3]) {
    const reply = await app.inject({ method: 'POST', url: '/', payload })
    t.same(reply.json(), { n })
  }
  t.same(await storage.read(['c/b/conversations/x']), { 'c/b/conversations/x': { n: 3 } })
  await app.close()
})
