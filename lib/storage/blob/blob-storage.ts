import { describeType } from '../../document/describe-type.js'
import { DriverStorage } from '../driver/driver-storage.js'
import { objectDriver } from '../driver/object-driver.js'
import { EXPIRY_OPTIONS, type Expiry, lifetimeOf } from '../expiry.js'
import { isDocumentName } from '../file-name.js'
import { assertKnownOptions, describeUrl, invalidOption } from '../option-checks.js'
import { besideOf, blobLink, removeBlob } from './blob-link.js'
import type { BlobContainer, BlobPage } from './container.js'

export type { BlobCall, BlobClient, BlobConditions, BlobContainer, BlobPage } from './container.js'

/** The options of `BlobStorage`. */
export interface BlobStorageOptions extends Expiry {
  /** What every blob's name begins with, such as `bot/`. Default nothing. */
  prefix?: string | undefined
}

/** Leaves room for the name of a document. */
const MAX_PREFIX_LENGTH = 512

/** State in Azure Blob Storage, for any number of processes: a blob a document. */
export class BlobStorage extends DriverStorage {
  readonly #container: BlobContainer
  readonly #prefix: string

  /**
   * @param container a `ContainerClient` of @azure/storage-blob, of a container that is there
   * @param options `prefix`, by default nothing; `ttl`, in seconds, by default for ever, and `renew`
   * @throws FST_BOTAS_STATE_INVALID_OPTION where one of them is wrong
   */
  constructor (container: BlobContainer, options: BlobStorageOptions = {}) {
    assertKnownOptions(options, ['prefix', ...EXPIRY_OPTIONS])
    const { prefix = '' } = options
    if (typeof container?.getBlockBlobClient !== 'function') {
      throw invalidOption('container', 'a ContainerClient of @azure/storage-blob', typeof container === 'string' ? describeUrl(container) : describeType(container))
    }
    // Slashes that lead nowhere, and dots, would change the path.
    if (typeof prefix !== 'string' || !/^(?:[\w~-][\w.~-]*\/)*(?:[\w~-][\w.~-]*)?$/.test(prefix) || prefix.length > MAX_PREFIX_LENGTH) {
      throw invalidOption('prefix', 'letters, digits, "-", "_", "~" and single slashes, such as "bot/"', typeof prefix === 'string' ? 'another string' : describeType(prefix))
    }
    super(objectDriver(blobLink(container, prefix)), lifetimeOf(options))
    this.#container = container
    this.#prefix = prefix
  }

  /**
   * Removes the blobs whose time has passed. Azure does not: call it now and then, in one process, where there is a `ttl`.
   *
   * @throws an error that says why Azure did not do it
   */
  async prune (): Promise<void> {
    // By the clock of the server.
    const { date = new Date() } = await this.sweep(({ signal }) => this.#container.getProperties({ abortSignal: signal }))
    let continuationToken: string | undefined
    do {
      const page = await this.sweep(({ signal }) => this.#pageFrom(continuationToken, signal))
      for (const { name, metadata, properties: { etag } } of page.segment.blobItems) {
        const { expires } = besideOf(metadata)
        if (!isDocumentName(name.slice(this.#prefix.length)) || !(expires > 0 && expires <= date.getTime())) continue
        await this.sweep(({ signal }) => removeBlob(this.#container.getBlockBlobClient(name), quoted(etag), signal))
      }
      ({ continuationToken } = page)
    } while (continuationToken !== undefined && continuationToken !== '')
  }

  /** Gives up a `prune` that is under way. The client is the caller's. */
  async close (): Promise<void> {
    this.endSweeps()
  }

  async #pageFrom (continuationToken: string | undefined, abortSignal: AbortSignal): Promise<BlobPage> {
    const blobs = this.#container.listBlobsFlat({ includeMetadata: true, prefix: this.#prefix, abortSignal })
    return (await blobs.byPage(continuationToken === undefined ? {} : { continuationToken }).next()).value
  }
}

/** As a condition has it: https://www.rfc-editor.org/rfc/rfc9110#name-etag */
function quoted (etag: string): string {
  return `"${etag.replaceAll('"', '')}"`
}
