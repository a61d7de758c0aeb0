import Fastify from 'fastify'
import t from 'tap'
import botasState, { MemoryStorage } from '../../../lib/index.js'
import { settled } from '../../helpers/build-fastify.js'
import { collectGarbage } from '../../helpers/memory.js'
import { storageSuite } from '../../helpers/storage-suite.js'

t.test('what every storage promises', async (t) => storageSuite(t, (_t, options) => new MemoryStorage(options)))

/** What is in use once all garbage is collected. */
function megabytes (): number {
  collectGarbage()
  return process.memoryUsage().heapUsed / 1e6
}

t.test('a closed storage keeps what it holds', async (t) => {
  const storage = new MemoryStorage()
  await storage.write({ key: { n: 1 } })
  await storage.close()
  t.strictSame(await storage.read(['key']), { key: { n: 1 } })
})

t.test('of too many documents the one that was not used for longest is forgotten', async (t) => {
  const storage = new MemoryStorage({ maxDocuments: 2 })
  await storage.write({ a: { n: 1 } })
  await storage.write({ b: { n: 1 } })
  await storage.read(['a'])
  await storage.update('c', () => ({ n: 1 }))
  t.strictSame(await storage.read(['a', 'b', 'c']), { a: { n: 1 }, c: { n: 1 } })
  await storage.delete(['a'])
  await storage.write({ d: { n: 1 } })
  t.strictSame(await storage.read(['a', 'b', 'c', 'd']), { c: { n: 1 }, d: { n: 1 } })
})

t.test('expired documents leave the memory though nobody asks for them', async (t) => {
  const storage = new MemoryStorage({ ttl: 1, maxDocuments: 100_000 })
  t.teardown(() => storage.close())
  const before = megabytes()
  for (let n = 0; n < 200; n++) await storage.write({ [n]: { text: `${n}`.repeat(50_000) } })
  t.ok(megabytes() - before > 15)
  await settled(() => megabytes() - before < 5)
  await storage.write({ key: { n: 1 } })
  await storage.prune()
  t.strictSame(await storage.read(['key', '1']), { key: { n: 1 } })
})

t.test('of a long text no more is kept than the piece that a turn has set', async (t) => {
  const app = Fastify()
  await app.register(botasState)
  t.teardown(() => app.close())
  const before = megabytes()
  for (let n = 0; n < 100; n++) {
    await app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: `${n}` }, ({ conversation }) => {
      conversation.set('lastWords', `${n} `.repeat(200_000).slice(0, 60))
    })
  }
  t.ok(megabytes() - before < 5)
})

t.test('wrong options are refused by name', async (t) => {
  for (const [option, value] of [['ttl', 0], ['ttl', '60'], ['maxDocuments', 0], ['maxDocuments', 1.5], ['max', 5]] as const) {
    t.throws(() => new MemoryStorage({ [option]: value }), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: new RegExp(`"${option}"`) })
  }
})
