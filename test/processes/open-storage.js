// A storage by what a test passes to a process: a URL of the package, one of an emulator, or a directory; encrypted with a key after
// `encrypted-<key id>+`.
import { BlobServiceClient, StorageSharedKeyCredential } from '@azure/storage-blob'
import { CosmosClient } from '@azure/cosmos'
import { FileStorage, MemoryStorage, encrypted } from 'fastify-botas-state'
import { BlobStorage } from 'fastify-botas-state/blob'
import { CosmosDbStorage } from 'fastify-botas-state/cosmos'
import { PostgresStorage } from 'fastify-botas-state/postgres'
import { RedisStorage } from 'fastify-botas-state/redis'

/** The account of every Azurite. */
const ACCOUNT = 'devstoreaccount1'
const KEY = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=='

/** The same in `test/helpers/encryption.ts`. */
const KEYS = { '2026-05': Buffer.alloc(32, 5), '2026-11': Buffer.alloc(32, 11) }

export function openStorage (url) {
  const [, current, inner] = /^encrypted-([\w-]+)\+(.*)$/.exec(url) ?? []
  if (inner !== undefined) return encrypted(openStorage(inner), { keys: { current, ...KEYS } })
  switch (/^(\w+)(?:\+http)?:/.exec(url)?.[1]) {
    case 'redis': return new RedisStorage(url)
    case 'postgres': return new PostgresStorage(url)
    case 'blob': return new BlobStorage(blobContainer(url))
    case 'cosmos': return new CosmosDbStorage(cosmosContainer(url))
    default: return url === 'memory' ? new MemoryStorage() : new FileStorage(url)
  }
}

export function blobContainer (url) {
  const { host, pathname } = new URL(url)
  return new BlobServiceClient(`http://${host}/${ACCOUNT}`, new StorageSharedKeyCredential(ACCOUNT, KEY)).getContainerClient(pathname.slice(1))
}

export function cosmosContainer (url) {
  const { host, pathname } = new URL(url)
  const [, database, container] = pathname.split('/')
  const client = new CosmosClient({
    endpoint: `http://${host}`,
    key: Buffer.from('any').toString('base64'),
    connectionPolicy: { enableEndpointDiscovery: false, enableBackgroundEndpointRefreshing: false }
  })
  return client.database(database).container(container)
}
