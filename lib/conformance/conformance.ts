import assert from 'node:assert/strict'
import type { Storage } from '../storage/storage.js'
import { commitChecks, fencedCommitChecks, type CommittingStorage } from './commit-checks.js'
import { documentChecks } from './document-checks.js'
import { expiringUpdateChecks, expiryChecks, renewalChecks } from './expiry-checks.js'
import { leaseChecks, type LeasingStorage } from './lease-checks.js'
import type { StorageCheck, UpdatingStorage } from './storage-check.js'
import { updateChecks } from './update-checks.js'

/** Declares one test, as `test` of node:test, tap and vitest do. */
export type DeclareTest = (title: string, work: () => Promise<void>) => unknown

/**
 * Opens a fresh, empty storage. The suite closes it; what else belongs to it, a container for instance, is the author's.
 *
 * @param options `ttl`: after how many seconds documents are to be forgotten, given only where `features.ttl` is set. `renew: 'load'`: that
 *   reading renews it, given only where `features.renew` is set.
 */
export type OpenStorage = (options: OpenOptions) => Storage | Promise<Storage>

/** How a storage is to be opened. */
export interface OpenOptions {
  /** Whole seconds after which documents are to be forgotten. */
  ttl?: number
  /** What restarts the countdown. */
  renew?: 'load'
}

/** What a storage offers beyond `read`, `write` and `delete`. */
export interface StorageFeatures {
  /** Whether it has `update`. Default `true`. */
  update?: boolean
  /** Whether it forgets documents `ttl` seconds after their last save. Default `false`. */
  ttl?: boolean
  /** Whether reading renews that where it is opened with `renew: 'load'`. Default `false`. */
  renew?: boolean
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
  const { update = true, ttl = false, renew = false, lease = false, once = false } = features
  declare(test, documentChecks, open, {})
  const openUpdating = opening<UpdatingStorage>(open, ['update'], 'update: false')
  if (update) declare(test, updateChecks, openUpdating, {})
  if (ttl) declare(test, expiryChecks, open, { ttl: 2 })
  if (renew) declare(test, renewalChecks, open, { ttl: 2, renew: 'load' })
  if (ttl && update) declare(test, expiringUpdateChecks, openUpdating, { ttl: 2 })
  if (lease) declare(test, leaseChecks, opening<LeasingStorage>(open, ['lease'], 'lease: false'), {})
  if (once) declare(test, commitChecks, opening<CommittingStorage>(open, ['commit', 'recall'], 'once: false'), {})
  if (lease && once) {
    declare(test, fencedCommitChecks, opening<CommittingStorage & LeasingStorage>(open, ['lease', 'commit', 'recall'], 'lease: false, once: false'), {})
  }
}

function declare<S extends Storage> (
  test: DeclareTest, checks: Array<StorageCheck<S>>, open: (options: OpenOptions) => S | Promise<S>, options: OpenOptions
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

/** Opens storages that must have some methods. */
function opening<S extends Storage> (
  open: OpenStorage, methods: Array<'update' | 'lease' | 'commit' | 'recall'>, without: string
): (options: OpenOptions) => Promise<S> {
  return async (options) => {
    const storage = await open(options)
    for (const method of methods) {
      assert.equal(typeof storage[method], 'function', `the storage has no method "${method}"; where that is meant, say { ${without} }`)
    }
    return storage as S
  }
}
