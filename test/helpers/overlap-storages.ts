import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { FileStorage, MemoryStorage, type Storage } from '../../lib/index.js'
import { BlobStorage } from '../../lib/storage/blob/blob-storage.js'
import { CosmosDbStorage } from '../../lib/storage/cosmos/cosmos-storage.js'
import { PostgresStorage } from '../../lib/storage/postgres/postgres-storage.js'
import { RedisStorage } from '../../lib/storage/redis/redis-storage.js'
import { encryptedAs } from './encryption.js'
import { LeasesOnly, LeasingStorage, newServer } from './leasing-storage.js'
import { startRedis } from './redis-server.js'
import { freshBlobContainer, freshCosmosContainer, freshTable } from './shared-servers.js'
import { slowStorage } from './slow-storage.js'

/** A storage by its name; two servers get it by two calls of what `open` gives. */
type Open = () => Storage

/** Those that take no time, some time, and those of other processes. */
const everyday: Record<string, (t: Test) => Promise<Open>> = {
  memory: async () => once(new MemoryStorage()),
  'a storage of somebody\'s that takes its time': async () => once(slowStorage(3)),
  'a storage of somebody\'s with leases': async () => {
    const server = newServer()
    return () => new LeasesOnly(server)
  },
  'a storage of somebody\'s with leases and commits': async () => {
    const server = newServer()
    return () => new LeasingStorage(server)
  },
  files: async (t) => once(new FileStorage(directoryOf(t))),
  Redis: async (t) => {
    const { url } = await startRedis(t)
    return () => new RedisStorage(url)
  },
  'memory, encrypted': async () => once(encryptedAs(new MemoryStorage())),
  'a storage of somebody\'s with leases and commits, encrypted': async () => {
    const server = newServer()
    return () => encryptedAs(new LeasingStorage(server))
  },
  'Redis, encrypted': async (t) => {
    const { url } = await startRedis(t)
    return () => encryptedAs(new RedisStorage(url))
  }
}

/** Those that share a driver: for `npm run test:all`, and `npm run test:storages`. */
const driven: Record<string, (t: Test) => Promise<Open>> = {
  Postgres: async () => {
    const { url, table } = await freshTable()
    return () => new PostgresStorage(url, { table })
  },
  'Postgres, encrypted': async () => {
    const { url, table } = await freshTable()
    return () => encryptedAs(new PostgresStorage(url, { table }))
  },
  'Azure Blob Storage': async () => {
    const container = await freshBlobContainer()
    return () => new BlobStorage(container)
  },
  'Azure Cosmos DB': async () => {
    const container = await freshCosmosContainer()
    return () => new CosmosDbStorage(container)
  }
}

/** Where these are asked for. */
export const drivenStorages = process.env.TEST_STORAGES === undefined ? {} : driven

/** The storages on which turns that overlap are tested. */
export const overlapStorages = { ...(process.env.TEST_STORAGES === 'driven' ? {} : everyday), ...drivenStorages }

/** Those by which an activity can be handled once. */
const NEVER = ['a storage of somebody\'s that takes its time', 'a storage of somebody\'s with leases', 'Azure Blob Storage', 'Azure Cosmos DB']
export const onceStorages = Object.fromEntries(Object.entries(overlapStorages).filter(([name]) => !NEVER.includes(name)))

function once (storage: Storage): Open {
  return () => storage
}

function directoryOf (t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'botas-overlap-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** Runs a test on each of them. */
export function onEachStorage (t: Test, title: string, work: (t: Test, open: Open, name: string) => Promise<void>): void {
  for (const [name, make] of Object.entries(overlapStorages)) t.test(`${title}: ${name}`, async (t) => work(t, await make(t), name))
}
