import assert from 'node:assert/strict'
import type { Storage } from '../storage/storage.js'
import { commitChecks, fencedCommitChecks, type CommittingStorage } from './commit-checks.js'
import { documentChecks } from './document-checks.js'
import { expiringUpdateChecks, expiryChecks } from './expiry-checks.js'
import { leaseChecks, type LeasingStorage } from './lease-checks.js'
import type { StorageCheck, UpdatingStorage } from './storage-check.js'
import { updateChecks } from './update-checks.js'

/** Declares one test, as `test` of node:test, tap and vitest do. */
export type DeclareTest = (title: string, work: () => Promise<void>) => unknown

/**
 * Opens a fresh, empty storage. The suite closes it; what else belongs to it, a container for instance, is the author's.
 *
 * @param options `ttl`: after how many seconds documents are to be forgotten. Given only where `features.ttl` is set.
 */
export type OpenStorage = (options: { ttl?: number }) => Storage | Promise<Storage>

/** What a storage offers beyond `read`, `write` and `delete`. */
export interface StorageFeatures {
  /** Whether it has `update`. Default `true`. */
  update?: boolean
  /** Whether it forgets documents `ttl` seconds after their last save. Default `false`. */
  ttl?: boolean
  /** Whether it has `lease`. Default `false`. */
  lease?: boolean
  /** Whether it has `commit` and `recall`. Default `false`. */
  once?: boolean
}

/**
 * Declares the tests that every storage has to pass: what a turn relies on. Each opens a storage of its own.
 *
 * @example
 * import { test } from 'node:test'
 * import { conformance } from 'fastify-botas-state/conformance'
 *
 * conformance(test, () => new MyStorage())
 *
 * @param test of any framework that takes a title and an async function
 * @param open is called once a test
 * @param features that the storage offers; by default `update`, and nothing else
 */
export function conformance (test: DeclareTest, open: OpenStorage, features: StorageFeatures = {}): void {
  const { update = true, ttl = false, lease = false, once = false } = features
  declare(test, documentChecks, open, {})
  const openUpdating = async (options: { ttl?: number }): Promise<UpdatingStorage> => assertUpdating(await open(options))
  if (update) declare(test, updateChecks, openUpdating, {})
  if (ttl) declare(test, expiryChecks, open, { ttl: 2 })
  if (ttl && update) declare(test, expiringUpdateChecks, openUpdating, { ttl: 2 })
  if (lease) declare(test, leaseChecks, async (options) => await open(options) as LeasingStorage, {})
  if (once) declare(test, commitChecks, async (options) => await open(options) as CommittingStorage, {})
  if (lease && once) declare(test, fencedCommitChecks, async (options) => await open(options) as CommittingStorage & LeasingStorage, {})
}

function declare<S extends Storage> (
  test: DeclareTest, checks: Array<StorageCheck<S>>, open: (options: { ttl?: number }) => S | Promise<S>, options: { ttl?: number }
): void {
  for (const { title, run } of checks) {
    test(title, async () => {
      const storage = await open(options)
      try {
        await run(storage)
      } finally {
        await storage.close?.()
      }
    })
  }
}

function assertUpdating (storage: Storage): UpdatingStorage {
  assert.equal(typeof storage.update, 'function', 'the storage has no method "update"; where that is meant, say { update: false }')
  return storage as UpdatingStorage
}
