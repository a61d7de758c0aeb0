import t from 'tap'
import { CosmosDbStorage } from '../../../lib/storage/cosmos/cosmos-storage.js'
import { freshCosmosContainer } from '../../helpers/shared-servers.js'
import { storageSuite } from '../../helpers/storage-suite.js'

t.test('what every storage promises', async (t) => storageSuite(t, async (_t, options) => new CosmosDbStorage(await freshCosmosContainer(), options)))
