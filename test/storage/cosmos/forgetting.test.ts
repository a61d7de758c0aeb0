import t from 'tap'
import { CosmosDbStorage } from '../../../lib/storage/cosmos/cosmos-storage.js'
import { forgettingSuite } from '../../helpers/forgetting-suite.js'
import { freshCosmosContainer } from '../../helpers/shared-servers.js'

forgettingSuite(t, async () => {
  const container = await freshCosmosContainer()
  const everything = async (): Promise<string[]> => (await container.items.readAll().fetchAll()).resources.map((item) => JSON.stringify(item))
  return { storage: new CosmosDbStorage(container), everything }
}, { once: false })
