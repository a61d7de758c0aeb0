import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { CosmosClient, type Container } from '@azure/cosmos'
import { BlobServiceClient, type ContainerClient, StorageSharedKeyCredential } from '@azure/storage-blob'
import { freePort } from './free-port.js'
import { startServer } from './server-process.js'

const programs = fileURLToPath(new URL('../servers/node_modules/.bin/', import.meta.url))

/** The account of every Azurite, and any key for the emulator of Cosmos DB, which does not look at it. */
const ACCOUNT = 'devstoreaccount1'
const BLOB_KEY = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=='
const COSMOS_KEY = Buffer.from('any').toString('base64')

/** An emulator that can be hung, and started. */
function restartable (t: Test, port: number, program: string, args: string[], ready: string) {
  const directory = mkdtempSync(join(tmpdir(), 'botas-azure-'))
  let server: ChildProcess | undefined
  const stop = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<void> => {
    if (server === undefined) return
    const exit = once(server, 'exit')
    server.kill('SIGCONT')
    server.kill(signal)
    await exit
    server = undefined
  }
  t.teardown(async () => {
    await stop('SIGKILL')
    rmSync(directory, { recursive: true, force: true })
  })
  return {
    port,
    start: async () => { server = await startServer(join(programs, program), args, directory, ready) },
    signal: (signal: NodeJS.Signals) => { server?.kill(signal) },
    stop
  }
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

/** Azurite, which forgets everything when it ends. */
export async function restartableAzurite (t: Test) {
  const port = await freePort()
  return {
    url: `blob+http://127.0.0.1:${port}/state`,
    ...restartable(t, port, 'azurite-blob', [
      // The client sends a newer version of the API than this Azurite knows.
      '--blobHost', '127.0.0.1', '--blobPort', String(port), '--inMemoryPersistence', '--disableTelemetry', '--silent', '--skipApiVersionCheck'
    ], 'successfully listens')
  }
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

/** The emulator of Cosmos DB, which forgets everything when it ends. */
export async function restartableCosmos (t: Test) {
  const port = await freePort()
  return {
    url: `cosmos+http://127.0.0.1:${port}/bot/state`,
    ...restartable(t, port, 'cosmosdb-server', ['-p', String(port), '--host', '127.0.0.1', '--no-ssl'], 'Ready to accept')
  }
}

/** A container as a storage needs it. */
export async function createCosmosContainer (port: number, name = 'state', partitionKey = '/id'): Promise<Container> {
  const container = cosmosContainer(port, name)
  await container.database.containers.create({ id: name, partitionKey: { paths: [partitionKey], version: 2 }, defaultTtl: -1 })
  return container
}

export async function createDatabase (port: number): Promise<void> {
  await cosmosContainer(port).database.client.databases.create({ id: 'bot' })
}
