import t from 'tap'
import { MemoryStorage } from '../../lib/index.js'
import { conformance } from './conformance.js'

conformance(t, async (t) => {
  const storage = new MemoryStorage()
  t.teardown(() => storage.close())
  return storage
})

t.test('a closed storage keeps what it holds', async (t) => {
  const storage = new MemoryStorage()
  await storage.write({ key: { n: 1 } })
  await storage.close()
  t.strictSame(await storage.read(['key']), { key: { n: 1 } })
})
