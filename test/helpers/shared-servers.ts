import type { Container } from '@azure/cosmos'
import type { ContainerClient } from '@azure/storage-blob'
import root from 'tap'
import { blobContainer, createBlobContainer, createCosmosContainer, createDatabase, startAzurite, startCosmos } from './azure-servers.js'
import { startPostgres } from './postgres-server.js'

// One server of a kind for all tests of a file.
let postgres: ReturnType<typeof startPostgres> | undefined
let azurite: ReturnType<typeof startAzurite> | undefined
let cosmos: Promise<number> | undefined
let count = 0

/** A table of one's own, which is created when it is first needed. */
export async function freshTable (): Promise<{ url: string, table: string }> {
  postgres ??= startPostgres(root)
  return { url: (await postgres).url, table: `state_${count++}` }
}

export async function freshBlobContainer (): Promise<ContainerClient> {
  azurite ??= startAzurite(root)
  const { port } = await azurite
  const name = `state-${count++}`
  await createBlobContainer(port, name)
  return blobContainer(port, name)
}

export async function freshCosmosContainer (): Promise<Container> {
  return createCosmosContainer(await cosmosPort(), `state-${count++}`)
}

/** Of an emulator with a database. */
export function cosmosPort (): Promise<number> {
  cosmos ??= startCosmos(root).then(async ({ port }) => {
    await createDatabase(port)
    return port
  })
  return cosmos
}
