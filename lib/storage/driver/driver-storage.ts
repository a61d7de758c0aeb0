import type { ChangeDocument, StateDocument } from '../../document/document.js'
import { provideDocumentStore } from '../document-store.js'
import type { Lifetime } from '../expiry.js'
import type { Patience } from '../patience.js'
import type { OutageObserver, Storage, StorageCall } from '../storage.js'
import type { Driver } from './driver.js'
import { DriverDocuments } from './driver-documents.js'

/** What the storages have in common that ask a server by a driver. */
export abstract class DriverStorage implements Storage {
  readonly #documents: DriverDocuments

  protected constructor (driver: Driver, lifetime: Lifetime) {
    this.#documents = new DriverDocuments(driver, lifetime)
  }

  /**
   * The documents of these keys; a key that is not stored is left out.
   *
   * @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where what is stored is no JSON object
   */
  async read (keys: string[], call?: StorageCall): Promise<Record<string, StateDocument>> {
    return this.#documents.read(keys, call)
  }

  /**
   * Replaces whole documents, whatever is stored.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE, and then writes nothing
   */
  async write (changes: Record<string, unknown>, call?: StorageCall): Promise<void> {
    await this.#documents.write(changes, call)
  }

  /** Deletes documents; a key that is not stored is no error. */
  async delete (keys: string[], call?: StorageCall): Promise<void> {
    await this.#documents.delete(keys, call)
  }

  /**
   * Compare-and-set against what was loaded; where something else is stored, again against that. Goes on until it succeeds,
   * `change` throws, or the call is given up.
   *
   * @throws what `change` throws, and FST_BOTAS_STATE_CORRUPT_DOCUMENT or FST_BOTAS_STATE_NOT_SERIALIZABLE
   */
  async update (key: string, change: ChangeDocument, loaded?: StateDocument, call?: StorageCall): Promise<void> {
    await this.#documents.update(key, change, loaded, call)
  }

  /** Tells when the server cannot be reached, and when it can again. */
  watch (observer: OutageObserver): () => void {
    return this.#documents.watch(observer)
  }

  /** What is about all documents is given up. */
  protected endSweeps (): void {
    this.#documents.endSweeps()
  }

  /** Sends what is about all documents and may take long, once. */
  protected sweep<Result> (command: (patience: Patience) => Promise<Result>): Promise<Result> {
    return this.#documents.sweep(command)
  }

  /** Nothing is sent from now on. */
  protected stop (): void {
    this.#documents.close()
  }

  static {
    provideDocumentStore(this.prototype, (storage) => storage.#documents)
  }
}
