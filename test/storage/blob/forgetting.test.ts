import t from 'tap'
import { BlobStorage } from '../../../lib/storage/blob/blob-storage.js'
import { forgettingSuite } from '../../helpers/forgetting-suite.js'
import { freshBlobContainer } from '../../helpers/shared-servers.js'

forgettingSuite(t, async () => {
  const container = await freshBlobContainer()
  const everything = async (): Promise<string[]> => {
    const blobs = []
    for await (const blob of container.listBlobsFlat({ includeMetadata: true, includeDeleted: true })) {
      const content = await container.getBlobClient(blob.name).downloadToBuffer()
      blobs.push(`${decodeURIComponent(blob.name)} ${JSON.stringify(blob)} ${String(content)}`)
    }
    return blobs
  }
  return { storage: new BlobStorage(container), everything }
}, { once: false })
