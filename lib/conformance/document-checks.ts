import assert from 'node:assert/strict'
import { type StorageCheck, read } from './storage-check.js'

/** What `read`, `write`, `delete` and `close` promise. */
export const documentChecks: StorageCheck[] = [
  {
    title: 'a key that is not stored is left out',
    async run (storage) {
      await storage.write({ there: { a: 1 } })
      assert.deepEqual(await read(storage, 'there', 'not there'), { there: { a: 1 } })
      assert.deepEqual(await read(storage, 'not there'), {})
      assert.deepEqual(await read(storage), {})
    }
  },
  {
    title: 'every JSON value comes back as it was written',
    async run (storage) {
      const document = {
        text: 'text',
        empty: '',
        quote: '"\\\n\u2028',
        number: 1.5,
        large: 1e300,
        negative: -7,
        zero: 0,
        yes: true,
        no: false,
        nothing: null,
        list: [1, [2, { three: 3 }], null],
        object: { a: { b: {} } },
        none: []
      }
      await storage.write({ key: document })
      assert.deepEqual(await read(storage, 'key'), { key: document })
    }
  },
  {
    title: 'an empty document is a document',
    async run (storage) {
      await storage.write({ key: {} })
      assert.deepEqual(await read(storage, 'key'), { key: {} })
    }
  },
  {
    title: 'several documents are written and read at once',
    async run (storage) {
      await storage.write({ a: { n: 1 }, b: { n: 2 }, c: { n: 3 } })
      assert.deepEqual(await read(storage, 'c', 'a'), { c: { n: 3 }, a: { n: 1 } })
    }
  },
  {
    title: 'a write replaces the whole document',
    async run (storage) {
      await storage.write({ key: { a: 1, b: 2 } })
      await storage.write({ key: { b: 3 } })
      assert.deepEqual(await read(storage, 'key'), { key: { b: 3 } })
    }
  },
  {
    title: 'keys may hold any Unicode text',
    async run (storage) {
      const keys = ['channel/bot/users/Zoë', '会话', '🤖/🧠', 'a b', '../../etc/passwd', '%2F', '*?[a]', '__proto__', 'constructor', 'é', 'e\u0301']
      await storage.write(Object.fromEntries(keys.map((key, index) => [key, { index }])))
      for (const [index, key] of keys.entries()) {
        assert.deepEqual(Object.entries(await storage.read([key])), [[key, { index }]])
      }
    }
  },
  {
    title: 'names in a document may be anything',
    async run (storage) {
      const document = JSON.parse('{"__proto__":1,"constructor":2,"toString":3,"":4,"ключ":5,"a.b":6,"$set":7}')
      await storage.write({ key: document })
      const { key } = await read(storage, 'key')
      assert.deepEqual(Object.entries(key as object).sort(), Object.entries(document).sort())
    }
  },
  {
    title: 'what is written or read is a copy',
    async run (storage) {
      const document = { list: [1] }
      await storage.write({ key: document })
      document.list.push(2)
      const { key } = await read(storage, 'key') as { key: typeof document }
      assert.deepEqual(key, { list: [1] })
      key.list.push(3)
      assert.deepEqual(await read(storage, 'key'), { key: { list: [1] } })
    }
  },
  {
    title: 'deleting is idempotent',
    async run (storage) {
      await storage.write({ a: { n: 1 }, b: { n: 2 } })
      await storage.delete(['a', 'never stored'])
      await storage.delete(['a'])
      await storage.delete([])
      assert.deepEqual(await read(storage, 'a', 'b'), { b: { n: 2 } })
    }
  },
  {
    title: 'closing is idempotent',
    async run (storage) {
      await storage.write({ a: { n: 1 } })
      await storage.close?.()
      await storage.close?.()
    }
  }
]
