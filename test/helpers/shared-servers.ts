import type { Container } from '@azure/cosmos'
import type { ContainerClient } from '@azure/storage-blob'
import root from 'tap'
import { blobContainer, createBlobContainer, createCosmosContainer, createDatabase, restartableAzurite, restartableCosmos } from './azure-servers.js'
import { startPostgres } from './postgres-server.js'

// One server of a kind for all tests of a file.
let postgres: ReturnType<typeof startPostgres> | undefined
let azurite: Promise<number> | undefined
let cosmos: Promise<number> | undefined
let count = 0

/** A table of one's own, which is created when it is first needed. */
export async function freshTable (): Promise<{ url: string, table: string }> {
  postgres ??= startPostgres(root)
  return { url: (await postgres).url, table: `state_${count++}` }
}

export async function freshBlobContainer (): Promise<ContainerClient> {
  azurite ??= started(restartableAzurite(root))
  const name = `state-${count++}`
  await createBlobContainer(await azurite, name)
  return blobContainer(await azurite, name)
}

export async function freshCosmosContainer (): Promise<Container> {
  return createCosmosContainer(await cosmosPort(), `state-${count++}`)
}

/** Of an emulator with a database. */
export function cosmosPort (): Promise<number> {
  cosmos ??= started(restartableCosmos(root)).then(async (port) => {
    await createDatabase(port)
    return port
  })
  return cosmos
}

async function started (starting: Promise<{ port: number, start: () => Promise<void> }>): Promise<number> {
  const { port, start } = await starting
  await start()
  return port
}
