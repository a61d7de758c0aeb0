import assert from 'node:assert/strict'
import type { StateDocument } from '../document/document.js'
import { type StorageCheck, type UpdatingStorage, read } from './storage-check.js'

/** What `update` promises: a change of one document that nothing comes between. */
export const updateChecks: Array<StorageCheck<UpdatingStorage>> = [
  {
    title: 'an update changes a document and keeps what it does not touch',
    async run (storage) {
      await storage.write({ key: { n: 1, unknown: { to: ['us'] } } })
      await storage.update('key', (current) => ({ ...current, n: 2 }))
      assert.deepEqual(await read(storage, 'key'), { key: { n: 2, unknown: { to: ['us'] } } })
    }
  },
  {
    title: 'an update may change the document that it is given',
    async run (storage) {
      await storage.write({ key: { list: [1], n: 1 } })
      const loaded = await load(storage, 'key')
      await storage.update('key', (current) => {
        (current?.list as number[]).push(2)
        return current
      }, loaded)
      assert.deepEqual(await read(storage, 'key'), { key: { list: [1, 2], n: 1 } })
    }
  },
  {
    title: 'what an update is given or gives is a copy',
    async run (storage) {
      await storage.write({ key: { list: [1] } })
      let given: unknown
      const next = { list: [9] }
      await storage.update('key', (current) => {
        given = current
        return next
      })
      next.list.push(10)
      assert.deepEqual(given, { list: [1] })
      assert.deepEqual(await read(storage, 'key'), { key: { list: [9] } })
    }
  },
  {
    title: 'an update creates a document where there is none',
    async run (storage) {
      await storage.update('key', (current) => ({ had: current ?? 'nothing' }))
      assert.deepEqual(await read(storage, 'key'), { key: { had: 'nothing' } })
    }
  },
  {
    title: 'an update that gives undefined removes the document',
    async run (storage) {
      await storage.write({ key: { n: 1 } })
      await storage.update('key', () => undefined)
      await storage.update('never stored', () => undefined)
      assert.deepEqual(await read(storage, 'key', 'never stored'), {})
    }
  },
  {
    title: 'an update that throws passes its error on and stores nothing',
    async run (storage) {
      await storage.write({ key: { n: 1 } })
      const error = new Error('no change')
      await assert.rejects(async () => storage.update('key', (current) => {
        if (current !== undefined) current.n = 7
        throw error
      }), (thrown) => thrown === error)
      assert.deepEqual(await read(storage, 'key'), { key: { n: 1 } })
      await storage.update('key', () => ({ n: 2 }))
      assert.deepEqual(await read(storage, 'key'), { key: { n: 2 } }, 'the next one is not held up')
    }
  },
  {
    title: 'an update notices what was written since the document was loaded',
    async run (storage) {
      await storage.write({ key: { n: 1 } })
      const loaded = await load(storage, 'key')
      await storage.write({ key: { n: 10 } })
      await storage.update('key', (current) => ({ n: current?.n as number + 1 }), loaded)
      assert.deepEqual(await read(storage, 'key'), { key: { n: 11 } })
    }
  },
  {
    title: 'an update notices that the document was deleted since it was loaded',
    async run (storage) {
      await storage.write({ key: { n: 1 } })
      const loaded = await load(storage, 'key')
      await storage.delete(['key'])
      await storage.update('key', (current) => ({ had: current ?? 'nothing' }), loaded)
      assert.deepEqual(await read(storage, 'key'), { key: { had: 'nothing' } })
    }
  },
  {
    title: 'an update takes a document that it did not load itself for what it is',
    async run (storage) {
      await storage.write({ key: { n: 1 } })
      await storage.update('key', (current) => ({ n: current?.n as number + 1 }), { n: 100 })
      assert.deepEqual(await read(storage, 'key'), { key: { n: 2 } })
    }
  },
  {
    title: 'of 100 updates at once none is lost',
    async run (storage) {
      const loaded = await load(storage, 'key')
      await Promise.all(Array.from({ length: 100 }, (_, index) =>
        storage.update('key', (current) => ({ ...current, [index]: true, n: (current?.n as number ?? 0) + 1 }), loaded)))
      const document = await load(storage, 'key')
      assert.equal(document?.n, 100)
      assert.equal(Object.keys(document).length, 101)
    }
  }
]

async function load (storage: UpdatingStorage, key: string): Promise<StateDocument | undefined> {
  return (await storage.read([key]))[key] as StateDocument | undefined
}
