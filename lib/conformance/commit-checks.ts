import assert from 'node:assert/strict'
import { setTimeout as wait } from 'node:timers/promises'
import type { StateDocument } from '../document/document.js'
import type { Storage } from '../storage/storage.js'
import type { LeasingStorage } from './lease-checks.js'
import { type StorageCheck, read } from './storage-check.js'

/** A storage that has the optional methods `commit` and `recall`. */
export type CommittingStorage = Storage & Required<Pick<Storage, 'commit' | 'recall'>>

const count = (current: StateDocument | undefined): StateDocument => ({ ...current, n: (current?.n as number | undefined ?? 0) + 1 })
const record = { name: 'record', text: 'what was answered', seconds: 60 }

/** What `commit` and `recall` promise: several documents and a record, all or none. */
export const commitChecks: Array<StorageCheck<CommittingStorage>> = [
  {
    title: 'a commit changes documents, creates and removes them, and keeps a record',
    async run (storage) {
      await storage.write({ changed: { n: 1 }, removed: { n: 1 } })
      const { changed: loaded } = await storage.read(['changed'])
      const changes = [
        { key: 'changed', change: count, loaded: loaded as StateDocument }, { key: 'created', change: count }, { key: 'removed', change: () => undefined }
      ]
      assert.equal(await storage.recall('record'), undefined)
      assert.equal(await storage.commit({ changes, record }), 'committed')
      assert.deepEqual(await read(storage, 'changed', 'created', 'removed', 'record'), { changed: { n: 2 }, created: { n: 1 } })
      assert.equal(await storage.recall('record'), 'what was answered')
    }
  },
  {
    title: 'a commit whose record is there already changes nothing',
    async run (storage) {
      await storage.commit({ changes: [], record })
      const again = { ...record, text: 'another answer' }
      assert.equal(await storage.commit({ changes: [{ key: 'key', change: count }], record: again }), 'recorded')
      assert.deepEqual(await read(storage, 'key'), {})
      assert.equal(await storage.recall('record'), 'what was answered')
    }
  },
  {
    title: 'of many commits with one record, at once, one is done',
    async run (storage) {
      const outcomes = await Promise.all(Array.from({ length: 20 }, () =>
        storage.commit({ changes: ['a', 'b'].map((key) => ({ key, change: count })), record })))
      assert.equal(outcomes.filter((outcome) => outcome === 'committed').length, 1)
      assert.deepEqual(await read(storage, 'a', 'b'), { a: { n: 1 }, b: { n: 1 } })
    }
  },
  {
    title: 'commits at once lose nothing',
    async run (storage) {
      await Promise.all(Array.from({ length: 20 }, () => storage.commit({ changes: ['a', 'b'].map((key) => ({ key, change: count })) })))
      assert.deepEqual(await read(storage, 'a', 'b'), { a: { n: 20 }, b: { n: 20 } })
    }
  },
  {
    title: 'a commit of which one change throws does nothing, and passes the error on',
    async run (storage) {
      const error = new Error('of the change')
      const changes = [{ key: 'a', change: count }, { key: 'b', change: () => { throw error } }]
      await assert.rejects(storage.commit({ changes, record }), (thrown) => thrown === error)
      assert.deepEqual(await read(storage, 'a', 'b'), {})
      assert.equal(await storage.recall('record'), undefined)
    }
  },
  {
    title: 'a record is forgotten after its seconds',
    async run (storage) {
      await storage.commit({ changes: [], record: { ...record, seconds: 1 } })
      await wait(1500)
      assert.equal(await storage.recall('record'), undefined)
      assert.equal(await storage.commit({ changes: [], record }), 'committed')
    }
  }
]

/** What `commit` promises of leases. */
export const fencedCommitChecks: Array<StorageCheck<CommittingStorage & LeasingStorage>> = [
  {
    title: 'a commit whose lease is lost changes nothing',
    async run (storage) {
      const commit = (holder: string): ReturnType<typeof storage.commit> =>
        storage.commit({ changes: [{ key: 'key', change: count }], lease: { name: 'name', holder }, record: { ...record, name: holder } })
      assert.equal(await commit('one'), 'lost')
      await storage.lease('name', 'one', 60_000)
      assert.equal(await commit('one'), 'committed')
      await storage.lease('name', 'other', 60_000, 'one')
      await storage.lease('another name', 'one', 60_000)
      assert.equal(await commit('one'), 'lost')
      assert.deepEqual(await read(storage, 'key'), { key: { n: 1 } })
    }
  }
]
