import { opendir, unlink } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { ChangeDocument, StateDocument } from '../../document/document.js'
import { TextDocument, documentsOf, objectsOf } from '../../document/text-document.js'
import { KeyedQueue } from '../../waiting/keyed-queue.js'
import { describeType } from '../../document/describe-type.js'
import { assertKnownOptions, assertWholeNumber, describeUrl, invalidOption, schemeOf } from '../option-checks.js'
import { provideDocumentStore, saveEach } from '../document-store.js'
import { type Expiry, pruneRegularly } from '../expiry.js'
import { isStored, permissionsAt, permissionsOf, readDocument, removeLeftovers, savedAt, writeDocument } from './document-file.js'
import { fileName, isDocumentName } from './file-name.js'
import { ifThere } from './if-there.js'
import { realPath } from './real-path.js'
import type { Storage } from '../storage.js'

/** The files that this process changes, by path: several storages may be open on one directory. */
const files = new KeyedQueue()

/** The options of `FileStorage`. */
export interface FileStorageOptions extends Expiry {}

/**
 * State in a directory, one JSON file a document, for one process at a time; a worker thread counts as a process. A file
 * is always complete: it is written aside, synced and renamed, and keeps its permissions. What a killed process left
 * half-written is removed by the next one.
 */
export class FileStorage implements Storage {
  readonly #directory: string
  readonly #ttl: number | undefined
  #located: Promise<string> | undefined
  #sweep: Promise<void> | undefined
  #pruning: NodeJS.Timeout | undefined

  /**
   * @param directory a path, relative to the working directory of now; its links are followed at the first use, and it is
   *   made by the first write. It is the storage's own: with a `ttl` every old `.json` file in it is removed. Default
   *   `./bot-state`.
   * @param options `ttl`, in seconds, by default for ever
   * @throws FST_BOTAS_STATE_INVALID_OPTION where one of them is wrong
   */
  constructor (directory = './bot-state', options: FileStorageOptions = {}) {
    assertKnownOptions(options, ['ttl'])
    const { ttl } = options
    assertWholeNumber('ttl', ttl, 'seconds')
    if (typeof directory !== 'string') throw invalidDirectory(describeType(directory))
    // The password of a storage's URL would be in every error of the file system.
    if (directory === '' || schemeOf(directory) !== undefined) throw invalidDirectory(describeUrl(directory))
    this.#directory = resolve(directory)
    this.#ttl = ttl
  }

  /**
   * The documents of these keys, after all changes of theirs that are under way; a key that is not stored is left out.
   *
   * @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where a file is no regular one, or no JSON object in UTF-8
   */
  async read (keys: string[]): Promise<Record<string, StateDocument>> {
    return objectsOf(keys, await this.#readDocuments(keys))
  }

  /**
   * Replaces whole documents, whatever they say.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE, and then writes nothing, or FST_BOTAS_STATE_CORRUPT_DOCUMENT where a file is no
   *   regular one
   */
  async write (changes: Record<string, unknown>): Promise<void> {
    await Promise.all(documentsOf(changes).map(([key, document]) =>
      this.#inTurn(key, async (path) => writeDocument(path, document, await permissionsAt(path, key)))))
  }

  /** Deletes documents; a key that is not stored is no error. */
  async delete (keys: string[]): Promise<void> {
    await Promise.all(keys.map((key) => this.#inTurn(key, (path) => ifThere(unlink(path)))))
  }

  /**
   * Changes one document. Changes of one key run one after another, within this process.
   *
   * @throws what `change` throws, and FST_BOTAS_STATE_CORRUPT_DOCUMENT or FST_BOTAS_STATE_NOT_SERIALIZABLE
   */
  async update (key: string, change: ChangeDocument): Promise<void> {
    await this.#replace(key, undefined, (stored) => TextDocument.changed(stored, change, key))
  }

  /** Removes the files whose `ttl` has passed. Runs by itself now and then. */
  async prune (): Promise<void> {
    const directory = await this.#locate()
    for await (const entry of await ifThere(opendir(directory)) ?? []) {
      if (entry.isFile() && isDocumentName(entry.name)) await this.#removeExpired(join(directory, entry.name))
    }
  }

  /** Ends the clean-up of the first use. Nothing else is held open between calls. */
  async close (): Promise<void> {
    await this.#located?.catch(() => {})
    clearInterval(this.#pruning)
    this.#pruning = undefined
    await this.#sweep
  }

  /** The real path of the directory: one that has two names is one. All calls wait for the same promise and keep their order. */
  #locate (): Promise<string> {
    this.#located ??= realPath(this.#directory).catch((error) => {
      this.#located = undefined
      throw error
    })
    return this.#located
  }

  /** The first use also removes, in the background, what a killed process left. */
  async #use (): Promise<string> {
    const directory = await this.#locate()
    this.#sweep ??= removeLeftovers(directory)
    // What is not removed is not read either: the next time may succeed.
    if (this.#ttl !== undefined) this.#pruning ??= pruneRegularly(() => this.prune().catch(() => {}), this.#ttl)
    return directory
  }

  static {
    provideDocumentStore(this.prototype, (storage) => ({
      load: (keys) => storage.#readDocuments(keys),
      save: (changes) => saveEach(changes, ({ key, loaded, edit }) =>
        storage.#replace(key, loaded as TextDocument | undefined, (stored) => TextDocument.edited(stored, edit, key)))
    }))
  }

  async #readDocuments (keys: string[]): Promise<Array<TextDocument | undefined>> {
    const directory = await this.#use()
    const paths = keys.map((key) => join(directory, fileName(key)))
    if (files.isBusy(paths)) await files.settled(paths)
    return Promise.all(keys.map(async (key, index) => {
      const path = paths[index] as string
      await this.#removeExpired(path)
      return readDocument(path, key)
    }))
  }

  /** @param loaded the document that may be stored still */
  async #replace (
    key: string, loaded: TextDocument | undefined, change: (stored: TextDocument | undefined) => TextDocument | undefined
  ): Promise<void> {
    await this.#inTurn(key, async (path) => {
      await this.#unlinkExpired(path)
      const stored = await isStored(path, loaded) ? loaded : await readDocument(path, key)
      const next = change(stored)
      if (next !== undefined) await writeDocument(path, next, permissionsOf(stored))
      else if (stored !== undefined) await ifThere(unlink(path))
    })
  }

  async #inTurn (key: string, work: (path: string) => Promise<void>): Promise<void> {
    const path = join(await this.#use(), fileName(key))
    await files.run([path], async (turn) => {
      await turn
      await work(path)
    })
  }

  /** A file that is expired now may be replaced in a moment: it is looked at again when it is its turn. */
  async #removeExpired (path: string): Promise<void> {
    if (!await this.#isExpired(path)) return
    await files.run([path], async (turn) => {
      await turn
      await this.#unlinkExpired(path)
    })
  }

  async #unlinkExpired (path: string): Promise<void> {
    if (await this.#isExpired(path)) await ifThere(unlink(path))
  }

  async #isExpired (path: string): Promise<boolean> {
    if (this.#ttl === undefined) return false
    const saved = await savedAt(path)
    return saved !== undefined && saved + this.#ttl * 1000 <= Date.now()
  }
}

function invalidDirectory (got: string): Error {
  return invalidOption('directory', 'a path', got)
}
