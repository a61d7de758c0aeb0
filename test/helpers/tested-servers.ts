import type { Test } from 'tap'
import type { Storage } from '../../lib/index.js'
import { BlobStorage } from '../../lib/storage/blob/blob-storage.js'
import { CosmosDbStorage } from '../../lib/storage/cosmos/cosmos-storage.js'
import { PostgresStorage } from '../../lib/storage/postgres/postgres-storage.js'
import { RedisStorage } from '../../lib/storage/redis/redis-storage.js'
import { type Emulator, blobContainer, cosmosContainer, createBlobContainer, createCosmosContainer, createDatabase, startAzurite, startCosmos } from './azure-servers.js'
import { wayTo } from './lossy-way.js'
import { restartablePostgres } from './postgres-server.js'
import { restartableRedis } from './redis-server.js'

/** A server that can be stopped, hung and started again, with all that it confirmed. */
export interface TestedServer {
  readonly port: number
  /** For processes, see `test/processes/open-storage.js`. */
  urlAt(port: number): string
  /** A storage on it, by its own port, or that of a proxy before it. */
  storageAt(port: number): Storage & Required<Pick<Storage, 'update' | 'close'>>
  start(): Promise<void>
  signal(signal: NodeJS.Signals): void
  stop(signal?: NodeJS.Signals): Promise<void>
}

/** A server that is not started yet. */
export const testedServers = {
  async Redis (t: Test): Promise<TestedServer> {
    const redis = await restartableRedis(t)
    const urlAt = (port: number): string => `redis://127.0.0.1:${port}`
    return { ...redis, port: Number(new URL(redis.url).port), urlAt, storageAt: (port) => new RedisStorage(urlAt(port)) }
  },

  async Postgres (t: Test): Promise<TestedServer> {
    const postgres = await restartablePostgres(t)
    const urlAt = (port: number): string => `postgres://bot@127.0.0.1:${port}/postgres`
    return { ...postgres, urlAt, storageAt: (port) => new PostgresStorage(urlAt(port)) }
  },

  async 'Azure Blob Storage' (t: Test): Promise<TestedServer> {
    const azurite = await startAzurite(t)
    return throughAWay(t, azurite, (port) => `blob+http://127.0.0.1:${port}/state`, (port) => new BlobStorage(blobContainer(port)), createBlobContainer)
  },

  async 'Azure Cosmos DB' (t: Test): Promise<TestedServer> {
    const cosmos = await startCosmos(t)
    return throughAWay(t, cosmos, (port) => `cosmos+http://127.0.0.1:${port}/bot/state`, (port) => new CosmosDbStorage(cosmosContainer(port)),
      async (port) => {
        await createDatabase(port)
        await createCosmosContainer(port)
      })
  }
} satisfies Record<string, (t: Test) => Promise<TestedServer>>

/** An emulator forgets what it confirmed: in place of it, the way to it is closed. */
async function throughAWay (
  t: Test, emulator: Emulator,
  urlAt: TestedServer['urlAt'], storageAt: TestedServer['storageAt'], prepare: (port: number) => Promise<unknown>
): Promise<TestedServer> {
  await prepare(emulator.port)
  const way = await wayTo(t, emulator.port)
  await way.close()
  return { port: way.port, urlAt, storageAt, start: way.open, signal: emulator.signal, stop: way.close }
}
