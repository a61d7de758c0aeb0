import { createRequire } from 'node:module'
import fc from 'fast-check'
import t from 'tap'
import { companionKey } from '../../../lib/storage/redis/companion-key.js'

/** How ioredis finds the node of a key. */
const slotOf: (key: string) => number = createRequire(import.meta.url)('cluster-key-slot')

t.test('what stands beside a document is in its slot, whatever braces its key and the prefixes have', async (t) => {
  const text = fc.string({ unit: fc.constantFrom('{', '}', 'a', 'b', ':', 'é', '😀'), maxLength: 8 })
  const key = text.filter((key) => key !== '')
  fc.assert(fc.property(text, text, key, text, (clientPrefix, keyPrefix, key, rest) => {
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
