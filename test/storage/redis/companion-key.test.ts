import { createRequire } from 'node:module'
import fc from 'fast-check'
import { Cluster } from 'ioredis'
import t from 'tap'
import { companionKey, hidesHashTags } from '../../../lib/storage/redis/companion-key.js'
import { RedisStorage } from '../../../lib/storage/redis/redis-storage.js'

/** How ioredis finds the node of a key. */
const slotOf: (key: string) => number = createRequire(import.meta.url)('cluster-key-slot')

t.test('what stands beside a document is in its slot, whatever braces its key and the prefixes have', async (t) => {
  const text = fc.string({ unit: fc.constantFrom('{', '}', 'a', 'b', ':', 'é', '😀'), maxLength: 8 })
  const key = text.filter((key) => key !== '')
  fc.assert(fc.property(text, text, key, text, (clientPrefix, keyPrefix, key, rest) => {
    fc.pre(!hidesHashTags(clientPrefix + keyPrefix))
    // A server hashes a key with an empty tag as a whole, which ioredis does not know.
    fc.pre(!`${clientPrefix}${keyPrefix}${key}`.includes('{}'))
    const companion = companionKey('mark', keyPrefix, key, `:${rest}`, clientPrefix)
    return slotOf(clientPrefix + companion) === slotOf(clientPrefix + keyPrefix + key)
  }), { numRuns: 2000 })
})

t.test('it is told from every other one, and begins with the prefix', async (t) => {
  t.equal(companionKey('place', 'botas:', 'c/b/users/u', ''), 'botas:~place:{botas:c/b/users/u}')
  const keys = ['a', 'a{b}', 'c{b}', 'a}', 'b}', '{}', '{}a', 'a{', '}{a'].map((key) => companionKey('place', 'botas:', key, ''))
  t.equal(new Set(keys).size, keys.length)
  t.ok(keys.every((key) => key.startsWith('botas:~place:{')))
})

t.test('on a Cluster a prefix that leads every key elsewhere is refused', async (t) => {
  const client = (keyPrefix?: string) => {
    const cluster = new Cluster([{ host: '127.0.0.1', port: 1 }], { lazyConnect: true, redisOptions: { keyPrefix } })
    t.teardown(() => cluster.disconnect())
    return cluster
  }
  for (const keyPrefix of ['{', 'bot{', '{}bot', '{bot:']) {
    t.throws(() => new RedisStorage(client(), { keyPrefix }), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /"keyPrefix".*hash tag/ })
  }
  t.throws(() => new RedisStorage(client('{')), { code: 'FST_BOTAS_STATE_INVALID_OPTION' })
  for (const keyPrefix of ['{bot}:', '}', 'bot:']) t.doesNotThrow(() => new RedisStorage(client(), { keyPrefix }))
})
