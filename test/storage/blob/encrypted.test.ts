import t from 'tap'
import { BlobStorage } from '../../../lib/storage/blob/blob-storage.js'
import { encryptedAs, encryptedServer } from '../../helpers/encryption.js'
import { exactSavesSuite } from '../../helpers/exact-saves-suite.js'
import { freshBlobContainer } from '../../helpers/shared-servers.js'
import { EMULATED_AT_A_TIME, storageSuite } from '../../helpers/storage-suite.js'
import { testedServers } from '../../helpers/tested-servers.js'

t.test('encrypted it keeps what every storage promises', async (t) =>
  storageSuite(t, async (_t, options) => encryptedAs(new BlobStorage(await freshBlobContainer(), options)), EMULATED_AT_A_TIME))
t.test('encrypted: exact saves', async (t) =>
  exactSavesSuite(t, encryptedServer(testedServers['Azure Blob Storage']), { remembersRemovals: false, runs: 20 }))
