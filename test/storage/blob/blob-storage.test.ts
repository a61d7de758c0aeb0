import t from 'tap'
import { BlobStorage } from '../../../lib/storage/blob/blob-storage.js'
import { freshBlobContainer } from '../../helpers/shared-servers.js'
import { storageSuite } from '../../helpers/storage-suite.js'

t.test('what every storage promises', async (t) => storageSuite(t, async (_t, options) => new BlobStorage(await freshBlobContainer(), options)))
