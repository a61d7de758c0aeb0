import { describeType } from '../../document/describe-type.js'
import { DriverStorage } from '../driver/driver-storage.js'
import { objectDriver } from '../driver/object-driver.js'
import { EXPIRY_OPTIONS, type Expiry, lifetimeOf } from '../expiry.js'
import { assertKnownOptions, describeUrl, invalidOption } from '../option-checks.js'
import type { CosmosContainer } from './container.js'
import { cosmosLink } from './cosmos-link.js'

export type { CosmosCall, CosmosContainer, CosmosItem, CosmosResponse } from './container.js'

/** The options of `CosmosDbStorage`. */
export interface CosmosDbStorageOptions extends Expiry {}

/** State in Azure Cosmos DB for NoSQL, for any number of processes: an item a document, with its exact text. */
export class CosmosDbStorage extends DriverStorage {
  /**
   * @param container a `Container` of @azure/cosmos, which is there and has the partition key `/id`; with `defaultTtl: -1` it removes
   *   what has expired
   * @param options `ttl`, in seconds, by default for ever, and `renew`
   * @throws FST_BOTAS_STATE_INVALID_OPTION where one of them is wrong
   */
  constructor (container: CosmosContainer, options: CosmosDbStorageOptions = {}) {
    assertKnownOptions(options, EXPIRY_OPTIONS)
    if (typeof container?.item !== 'function' || typeof container.items?.create !== 'function') {
      throw invalidOption('container', 'a Container of @azure/cosmos', typeof container === 'string' ? describeUrl(container) : describeType(container))
    }
    super(objectDriver(cosmosLink(container)), lifetimeOf(options))
  }

  /** The client is the caller's. */
  async close (): Promise<void> {}
}
