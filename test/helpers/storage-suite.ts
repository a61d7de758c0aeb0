import { setTimeout as wait } from 'node:timers/promises'
import type { Test } from 'tap'
import { type OpenOptions, conformance } from '../../lib/conformance/conformance.js'
import type { Storage } from '../../lib/index.js'
import { documentStoreOf } from '../../lib/storage/document-store.js'

const PROMISES_AT_A_TIME = 5
/** Of who only looks. */
const call = { signal: new AbortController().signal, renews: false, retrying () {} }
/** On an emulator, which is slow where much is asked of it at once. */
export const EMULATED_AT_A_TIME = 2

type Adapter = Storage & Required<Pick<Storage, 'update'>>

/**
 * What the storages of this package promise: all that every storage does, and the encoding of what is no JSON yet.
 *
 * @param open gives a fresh, empty storage for each promise; they are tested side by side, since some have to wait
 * @param jobs how many at once
 */
export function storageSuite (t: Test, open: (t: Test, options: OpenOptions) => Adapter | Promise<Adapter>, jobs = PROMISES_AT_A_TIME): void {
  t.jobs = jobs
  let current: Test
  const declare = (title: string, work: () => Promise<void>) => t.test(title, { buffered: true }, async (t) => {
    current = t
    await t.resolves(work())
  })
  conformance(declare, (options) => open(current, options), { ttl: true, renew: true })

  const promise = (title: string, keep: (t: Test, storage: Adapter) => Promise<void>) => t.test(title, { buffered: true }, async (t) => {
    const storage = await open(t, {})
    t.teardown(() => storage.close?.())
    await keep(t, storage)
  })

  t.test('it tells how long a document is kept, by a look that does not renew it', { buffered: true }, async (t) => {
    const storage = await open(t, { ttl: 60, renew: 'load' })
    t.teardown(() => storage.close?.())
    const timeLeft = async (key: string): Promise<number> => documentStoreOf(storage).timeLeft?.(key, call) as Promise<number>
    await storage.write({ key: { n: 1 } })
    await wait(100)
    const left = await timeLeft('key')
    t.ok(left > 40_000 && left < 60_000, `${left} ms`)
    await documentStoreOf(storage).load(['key'], call)
    await wait(100)
    t.ok(await timeLeft('key') < left)
    t.ok([0, Infinity].includes(await timeLeft('nothing')))
    const lasting = await open(t, {})
    t.teardown(() => lasting.close?.())
    await lasting.write({ key: { n: 1 } })
    t.equal(await documentStoreOf(lasting).timeLeft?.('key', call), Infinity)
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
    for (const value of [1n, Symbol('s'), () => {}, new Map(), new Set(), Number.NaN, [1].values(), new Headers(), Object(Number.NaN)]) {
      await t.rejects(storage.write({ other: {}, key: { value } }), { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE', message: /"key"/ })
    }
    for (const document of [null, undefined, 1, 'text', [1], new Date(), Buffer.from('{}'), new Map([['n', 1]]), new Headers({ n: '1' })]) {
      await t.rejects(storage.write({ key: document }), { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE', message: /"key"/ })
    }
    await t.rejects(storage.update('key', () => ({ n: 1n })), { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE', message: /"key"/ })
    t.strictSame(await storage.read(['key', 'other']), { key: { kept: true } })
  })

  promise('an update that changes the document to what JSON cannot hold stores nothing', async (t, storage) => {
    await storage.write({ key: { map: { a: 1 } } })
    await t.rejects(storage.update('key', (current) => {
      (current?.map as Record<string, unknown>).a = 1n
      return current
    }), { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE' })
    t.strictSame(await storage.read(['key']), { key: { map: { a: 1 } } })
  })
}
