import { setTimeout as wait } from 'node:timers/promises'
import type { Test } from 'tap'
import type { StateDocument, Storage } from '../../lib/index.js'

type Update = NonNullable<Storage['update']>
type Adapter = Storage & { update: Update, close: () => Promise<void> }

/**
 * What every storage promises.
 *
 * @param open gives a fresh, empty storage for each promise, and closes it with the test. It is asked for a `ttl` of so
 *   many seconds, or for none.
 */
export function conformance (t: Test, open: (t: Test, options: { ttl?: number }) => Promise<Adapter>): void {
  const promise = (title: string, check: (t: Test, storage: Adapter) => Promise<void>, options: { ttl?: number } = {}) =>
    t.test(title, async (t) => check(t, await open(t, options)))

  promise('a key that is not stored is left out', async (t, storage) => {
    await storage.write({ there: { a: 1 } })
    t.strictSame(await storage.read(['there', 'not there']), { there: { a: 1 } })
    t.strictSame(await storage.read(['not there']), {})
    t.strictSame(await storage.read([]), {})
  })

  promise('every JSON value comes back as it was written', async (t, storage) => {
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
    t.strictSame(await storage.read(['key']), { key: document })
  })

  promise('an empty document is a document', async (t, storage) => {
    await storage.write({ key: {} })
    t.strictSame(await storage.read(['key']), { key: {} })
  })

  promise('several documents are written and read at once', async (t, storage) => {
    await storage.write({ a: { n: 1 }, b: { n: 2 }, c: { n: 3 } })
    t.strictSame(await storage.read(['c', 'a']), { c: { n: 3 }, a: { n: 1 } })
  })

  promise('a write replaces the whole document', async (t, storage) => {
    await storage.write({ key: { a: 1, b: 2 } })
    await storage.write({ key: { b: 3 } })
    t.strictSame(await storage.read(['key']), { key: { b: 3 } })
  })

  promise('keys may hold any Unicode text', async (t, storage) => {
    const keys = ['channel/bot/users/Zoë', '会话', '🤖/🧠', 'a b', '../../etc/passwd', '%2F', '*?[a]', '__proto__', 'constructor', 'é', 'e\u0301']
    await storage.write(Object.fromEntries(keys.map((key, index) => [key, { index }])))
    for (const [index, key] of keys.entries()) {
      const documents = await storage.read([key])
      t.strictSame(Object.entries(documents), [[key, { index }]], key)
    }
  })

  promise('names in a document may be anything', async (t, storage) => {
    const text = '{"__proto__":1,"constructor":2,"toString":3,"":4,"ключ":5}'
    await storage.write({ key: JSON.parse(text) })
    t.equal(JSON.stringify((await storage.read(['key'])).key), text)
  })

  promise('dates are stored as ISO 8601 strings', async (t, storage) => {
    await storage.write({ key: { at: new Date(Date.UTC(2026, 10, 22, 7, 9, 59, 300)), until: null, n: 1 } })
    t.strictSame(await storage.read(['key']), { key: { at: '2026-11-22T07:09:59.300Z', until: null, n: 1 } })
  })

  promise('binary is stored as a Base64 string', async (t, storage) => {
    const bytes = new Uint8Array([0, 1, 250, 251, 252]).subarray(1)
    await storage.write({ key: { buffer: Buffer.from('hello'), bytes, nested: [bytes.buffer], view: new DataView(bytes.buffer, 3) } })
    t.strictSame(await storage.read(['key']), { key: { buffer: 'aGVsbG8=', bytes: 'Afr7/A==', nested: ['AAH6+/w='], view: '+/w=' } })
  })

  promise('a value that JSON cannot hold is refused and nothing is written', async (t, storage) => {
    await storage.write({ key: { kept: true } })
    for (const value of [1n, Symbol('s'), () => {}, new Map(), new Set(), Number.NaN]) {
      await t.rejects(storage.write({ other: {}, key: { value } }), { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE', message: /"key"/ })
    }
    for (const document of [null, undefined, 1, 'text', [1]]) {
      await t.rejects(storage.write({ key: document }), { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE', message: /"key"/ })
    }
    t.strictSame(await storage.read(['key', 'other']), { key: { kept: true } })
  })

  promise('nothing is shared by reference', async (t, storage) => {
    const document = { list: [1] }
    await storage.write({ key: document })
    document.list.push(2)
    const first = await storage.read(['key']) as { key: { list: number[] } }
    first.key.list.push(3)
    let seen: unknown
    await storage.update('key', (current) => {
      seen = structuredClone(current)
      const next = { list: [9] }
      queueMicrotask(() => next.list.push(10))
      return next
    })
    t.strictSame(seen, { list: [1] })
    t.strictSame(await storage.read(['key']), { key: { list: [9] } })
  })

  promise('deleting is idempotent', async (t, storage) => {
    await storage.write({ a: { n: 1 }, b: { n: 2 } })
    await storage.delete(['a', 'never stored'])
    await storage.delete(['a'])
    await storage.delete([])
    t.strictSame(await storage.read(['a', 'b']), { b: { n: 2 } })
  })

  promise('closing is idempotent', async (t, storage) => {
    await storage.write({ a: { n: 1 } })
    await storage.close()
    await storage.close()
  })

  promise('an update changes a document and keeps what it does not touch', async (t, storage) => {
    await storage.write({ key: { n: 1, unknown: { to: ['us'] } } })
    await storage.update('key', (current) => ({ ...current, n: 2 }))
    t.strictSame(await storage.read(['key']), { key: { n: 2, unknown: { to: ['us'] } } })
  })

  promise('an update may change the document that it is given', async (t, storage) => {
    await storage.write({ key: { list: [1], n: 1 } })
    const { key: loaded } = await storage.read(['key']) as { key: StateDocument }
    await storage.update('key', (current) => {
      (current?.list as number[]).push(2)
      return current
    }, loaded)
    t.strictSame(await storage.read(['key']), { key: { list: [1, 2], n: 1 } })
  })

  promise('an update that changes the document to what JSON cannot hold stores nothing', async (t, storage) => {
    await storage.write({ key: { map: { a: 1 } } })
    await t.rejects(storage.update('key', (current) => {
      (current?.map as Record<string, unknown>).a = 1n
      return current
    }), { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE' })
    t.strictSame(await storage.read(['key']), { key: { map: { a: 1 } } })
  })

  promise('an update creates a document where there is none', async (t, storage) => {
    await storage.update('key', (current) => ({ had: current ?? 'nothing' }))
    t.strictSame(await storage.read(['key']), { key: { had: 'nothing' } })
  })

  promise('an update that gives undefined removes the document', async (t, storage) => {
    await storage.write({ key: { n: 1 } })
    await storage.update('key', () => undefined)
    await storage.update('never stored', () => undefined)
    t.strictSame(await storage.read(['key', 'never stored']), {})
  })

  promise('an update that throws passes its error on and stores nothing', async (t, storage) => {
    await storage.write({ key: { n: 1 } })
    const error = new Error('no change')
    await t.rejects(storage.update('key', () => { throw error }), error)
    await t.rejects(storage.update('key', () => ({ n: 1n })), { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE' })
    t.strictSame(await storage.read(['key']), { key: { n: 1 } })
    await storage.update('key', () => ({ n: 2 }))
    t.strictSame(await storage.read(['key']), { key: { n: 2 } }, 'the next one is not held up')
  })

  promise('an update notices what was written since the document was loaded', async (t, storage) => {
    await storage.write({ key: { n: 1 } })
    const { key: loaded } = await storage.read(['key']) as { key: StateDocument }
    await storage.write({ key: { n: 10 } })
    await storage.update('key', (current) => ({ n: current?.n as number + 1 }), loaded)
    t.strictSame(await storage.read(['key']), { key: { n: 11 } })

    const { key: deleted } = await storage.read(['key']) as { key: StateDocument }
    await storage.delete(['key'])
    await storage.update('key', (current) => ({ had: current ?? 'nothing' }), deleted)
    t.strictSame(await storage.read(['key']), { key: { had: 'nothing' } })
  })

  promise('an update takes a document that it did not load itself for what it is', async (t, storage) => {
    await storage.write({ key: { n: 1 } })
    await storage.update('key', (current) => ({ n: current?.n as number + 1 }), { n: 100 })
    t.strictSame(await storage.read(['key']), { key: { n: 2 } })
  })

  promise('of 100 updates at once none is lost', async (t, storage) => {
    const { key: loaded } = await storage.read(['key']) as { key?: StateDocument }
    await Promise.all(Array.from({ length: 100 }, (_, index) =>
      storage.update('key', (current) => ({ ...current, [index]: true, n: (current?.n as number ?? 0) + 1 }), loaded)))
    const { key } = await storage.read(['key']) as { key: StateDocument }
    t.equal(key.n, 100)
    t.equal(Object.keys(key).length, 101)
  })

  promise('a document is forgotten when its time to live has passed since the last save', async (t, storage) => {
    await storage.write({ old: { n: 1 }, written: { n: 1 }, updated: { n: 1 } })
    await wait(700)
    await storage.write({ written: { n: 2 } })
    const { updated, old } = await storage.read(['updated', 'old']) as Record<string, StateDocument>
    await storage.update('updated', (current) => ({ n: current?.n as number + 1 }), updated)
    await wait(700)
    t.strictSame(await storage.read(['old', 'written', 'updated']), { written: { n: 2 }, updated: { n: 2 } }, 'a save renews it, reading does not')
    await storage.update('old', (current) => ({ had: current ?? 'nothing' }), old)
    t.strictSame(await storage.read(['old']), { old: { had: 'nothing' } }, 'an update finds nothing')
    await wait(1100)
    t.strictSame(await storage.read(['old', 'written', 'updated']), {})
  }, { ttl: 1 })

  promise('an update removes nothing where the document has expired', async (t, storage) => {
    await storage.write({ key: { n: 1 } })
    await wait(1100)
    await storage.update('key', (current) => current)
    t.strictSame(await storage.read(['key']), {})
  }, { ttl: 1 })
}
