import assert from 'node:assert/strict'
import { setTimeout as wait } from 'node:timers/promises'
import { type StorageCheck, type UpdatingStorage, read } from './storage-check.js'

/** Shorter than the time to live of two seconds, also where the machine is busy, and longer, in milliseconds. */
const NOT_YET = 1200
const OVER = 2100

/** What a storage promises whose documents live for two seconds. */
export const expiryChecks: StorageCheck[] = [
  {
    title: 'a document is forgotten when its time to live has passed since the last save',
    async run (storage) {
      await storage.write({ old: { n: 1 }, written: { n: 1 } })
      await wait(NOT_YET)
      await storage.write({ written: { n: 2 } })
      assert.deepEqual(await read(storage, 'old'), { old: { n: 1 } })
      await wait(NOT_YET)
      assert.deepEqual(await read(storage, 'old', 'written'), { written: { n: 2 } }, 'a save renews it, reading does not')
      await wait(OVER)
      assert.deepEqual(await read(storage, 'old', 'written'), {})
    }
  }
]

/** What such a storage promises that is opened with `renew: 'load'`. */
export const renewalChecks: StorageCheck[] = [
  {
    title: 'with renew: \'load\' a document lives on while it is read',
    async run (storage) {
      await storage.write({ read: { n: 1 }, unread: { n: 1 } })
      for (let time = 0; time < 3; time++) {
        await wait(NOT_YET)
        assert.deepEqual(await read(storage, 'read', 'never stored'), { read: { n: 1 } })
      }
      assert.deepEqual(await read(storage, 'unread'), {})
      await wait(OVER)
      assert.deepEqual(await read(storage, 'read'), {})
    }
  }
]

/** What such a storage promises where it has `update`. */
export const expiringUpdateChecks: Array<StorageCheck<UpdatingStorage>> = [
  {
    title: 'an update renews the time to live',
    async run (storage) {
      await storage.write({ key: { n: 1 } })
      await wait(NOT_YET)
      await storage.update('key', (current) => ({ n: current?.n as number + 1 }))
      await wait(NOT_YET)
      assert.deepEqual(await read(storage, 'key'), { key: { n: 2 } })
      await wait(OVER)
      assert.deepEqual(await read(storage, 'key'), {})
    }
  },
  {
    title: 'an update finds nothing where the document has expired since it was loaded',
    async run (storage) {
      await storage.write({ key: { n: 1 } })
      const { key: loaded } = await storage.read(['key']) as { key: { n: number } }
      await wait(OVER)
      await storage.update('key', (current) => ({ had: current ?? 'nothing' }), loaded)
      assert.deepEqual(await read(storage, 'key'), { key: { had: 'nothing' } })
    }
  },
  {
    title: 'an update removes nothing where the document has expired',
    async run (storage) {
      await storage.write({ key: { n: 1 } })
      await wait(OVER)
      await storage.update('key', (current) => current)
      assert.deepEqual(await read(storage, 'key'), {})
    }
  }
]
