import assert from 'node:assert/strict'
import { setTimeout as wait } from 'node:timers/promises'
import type { StorageCheck } from './storage-check.js'
import type { Storage } from '../storage/storage.js'

/** A storage that has the optional method `lease`. */
export type LeasingStorage = Storage & Required<Pick<Storage, 'lease'>>

const LONG = 60_000

/** What `lease` promises: one holder at a time, and none for ever. */
export const leaseChecks: Array<StorageCheck<LeasingStorage>> = [
  {
    title: 'a lease has one holder at a time, who may renew it',
    async run (storage) {
      assert.equal(await storage.lease('name', 'one', LONG), 'one')
      assert.equal(await storage.lease('name', 'other', LONG), 'one')
      assert.equal(await storage.lease('name', 'one', LONG), 'one')
      assert.equal(await storage.lease('another name', 'other', LONG), 'other')
    }
  },
  {
    title: 'of many that ask for a lease at once one gets it',
    async run (storage) {
      const holders = await Promise.all(Array.from({ length: 20 }, (_, n) => storage.lease('name', String(n), LONG)))
      assert.equal(new Set(holders).size, 1)
    }
  },
  {
    title: 'a lease is given back by its holder only',
    async run (storage) {
      assert.equal(await storage.lease('name', 'nobody', 0), undefined)
      await storage.lease('name', 'one', LONG)
      assert.equal(await storage.lease('name', 'other', 0), 'one')
      assert.equal(await storage.lease('name', 'one', 0), undefined)
      assert.equal(await storage.lease('name', 'other', LONG), 'other')
    }
  },
  {
    title: 'a lease ends by itself, counted from when it was last renewed',
    async run (storage) {
      await storage.lease('name', 'one', 1000)
      await wait(600)
      await storage.lease('name', 'one', 1000)
      await wait(600)
      assert.equal(await storage.lease('name', 'other', LONG), 'one')
      await wait(600)
      assert.equal(await storage.lease('name', 'other', LONG), 'other')
    }
  },
  {
    title: 'a lease is taken from the holder that is named, and from no other one',
    async run (storage) {
      await storage.lease('name', 'one', LONG)
      assert.equal(await storage.lease('name', 'other', LONG, 'somebody'), 'one')
      assert.equal(await storage.lease('name', 'other', LONG, 'one'), 'other')
      assert.equal(await storage.lease('name', 'one', LONG), 'other')
    }
  },
  {
    title: 'a lease is no document',
    async run (storage) {
      await storage.lease('name', 'one', LONG)
      assert.deepEqual({ ...await storage.read(['name']) }, {})
    }
  }
]
