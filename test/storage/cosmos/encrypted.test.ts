import t from 'tap'
import { CosmosDbStorage } from '../../../lib/storage/cosmos/cosmos-storage.js'
import { encryptedAs, encryptedServer } from '../../helpers/encryption.js'
import { exactSavesSuite } from '../../helpers/exact-saves-suite.js'
import { freshCosmosContainer } from '../../helpers/shared-servers.js'
import { EMULATED_AT_A_TIME, storageSuite } from '../../helpers/storage-suite.js'
import { testedServers } from '../../helpers/tested-servers.js'

t.test('encrypted it keeps what every storage promises', async (t) =>
  storageSuite(t, async (_t, options) => encryptedAs(new CosmosDbStorage(await freshCosmosContainer(), options)), EMULATED_AT_A_TIME))
t.test('encrypted: exact saves', async (t) =>
  exactSavesSuite(t, encryptedServer(testedServers['Azure Cosmos DB']), { remembersRemovals: false, runs: 20 }))
