import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { CosmosClient, type Container } from '@azure/cosmos'
import { BlobServiceClient, type ContainerClient, StorageSharedKeyCredential } from '@azure/storage-blob'
import { freePort } from './free-port.js'
import { serverDirectory, startWithTest } from './server-process.js'

const programs = fileURLToPath(new URL('../servers/node_modules/.bin/', import.meta.url))

/** The account of every Azurite, and any key for the emulator of Cosmos DB, which does not look at it. */
const ACCOUNT = 'devstoreaccount1'
const BLOB_KEY = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=='
const COSMOS_KEY = Buffer.from('any').toString('base64')

/** An emulator that can be hung. It forgets everything when it ends. */
export interface Emulator {
  readonly port: number
  signal(signal: NodeJS.Signals): void
}

async function startEmulator (t: Test, program: string, ready: string, args: (port: string) => string[]): Promise<Emulator> {
  const port = await freePort()
  const server = await startWithTest(t, join(programs, program), args(String(port)), serverDirectory(t), ready)
  return { port, signal: (signal) => { server.kill(signal) } }
}

/** How one tells a program where an Azurite is. */
export function blobConnectionString (port: number): string {
  return `DefaultEndpointsProtocol=http;AccountName=${ACCOUNT};AccountKey=${BLOB_KEY};BlobEndpoint=http://127.0.0.1:${port}/${ACCOUNT}`
}

/** The container client of an Azurite, or of a proxy before it. */
export function blobContainer (port: number, name = 'state', key = BLOB_KEY, maxTries = 1): ContainerClient {
  const credential = new StorageSharedKeyCredential(ACCOUNT, key)
  return new BlobServiceClient(`http://127.0.0.1:${port}/${ACCOUNT}`, credential, { retryOptions: { maxTries, retryDelayInMs: 50 } }).getContainerClient(name)
}

/** A test's own: the emulator closes a connection that was idle for a while, which may be the next one that is used. */
export async function createBlobContainer (port: number, name = 'state'): Promise<void> {
  await blobContainer(port, name, BLOB_KEY, 5).create()
}

export async function startAzurite (t: Test): Promise<Emulator> {
  return startEmulator(t, 'azurite-blob', 'successfully listens', (port) => [
    // The client sends a newer version of the API than this Azurite knows.
    '--blobHost', '127.0.0.1', '--blobPort', port, '--inMemoryPersistence', '--disableTelemetry', '--silent', '--skipApiVersionCheck'
  ])
}

/** A container of the emulator of Cosmos DB, or of a proxy before it. */
export function cosmosContainer (port: number, name = 'state'): Container {
  const client = new CosmosClient({
    endpoint: `http://127.0.0.1:${port}`,
    key: COSMOS_KEY,
    connectionPolicy: { enableEndpointDiscovery: false, enableBackgroundEndpointRefreshing: false, retryOptions: { maxRetryAttemptCount: 0 } }
  })
  return client.database('bot').container(name)
}

export async function startCosmos (t: Test): Promise<Emulator> {
  return startEmulator(t, 'cosmosdb-server', 'Ready to accept', (port) => ['-p', port, '--host', '127.0.0.1', '--no-ssl'])
}

export async function createDatabase (port: number): Promise<void> {
  await cosmosContainer(port).database.client.databases.create({ id: 'bot' })
}

/** A container as a storage needs it. */
export async function createCosmosContainer (port: number, name = 'state', partitionKey = '/id'): Promise<Container> {
  const container = cosmosContainer(port, name)
  await container.database.containers.create({ id: name, partitionKey: { paths: [partitionKey], version: 2 }, defaultTtl: -1 })
  return container
}
