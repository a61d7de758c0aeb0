import { randomUUID } from 'node:crypto'
import * as fs from 'node:fs'
import { mkdir, opendir, stat, unlink } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { type ChangeDocument, type StateDocument, documentsOf, encodeDocument, encodeDocuments } from '../document.js'
import { FST_BOTAS_STATE_INVALID_OPTION } from '../errors.js'
import { KeyQueue } from '../key-queue.js'
import { kindOf } from '../kind-of.js'
import { assertKnownOptions, assertWholeNumber } from '../option-checks.js'
import { StoredDocument } from '../stored-document.js'
import { type Found, allowDirectAccess } from './direct-access.js'
import { type Expiry, pruneRegularly } from './expiry.js'
import { fileName, isDocumentName } from './file-name.js'
import type { Storage } from './storage.js'

/** What every turn needs: of `node:fs/promises` these cost up to three times as much. */
const readFile = promisify(fs.readFile)
const open = promisify(fs.open)
const writeFile = promisify(fs.writeFile)
const fsync = promisify(fs.fsync)
const close = promisify(fs.close)
const rename = promisify(fs.rename)

/** Begins the names of the temporary files of this process; `=` keeps them apart from every document, see fileName. */
const ASIDE = `=${randomUUID()}-`
let asideCount = 0

/** The files that this process changes, by path: several storages may be open on one directory. */
const files = new KeyQueue()

/** The options of `FileStorage`. */
export interface FileStorageOptions extends Expiry {}

/**
 * State in a directory, one JSON file a document, for one process at a time. A file is always complete: it is written
 * aside, synced and renamed. What a killed process left half-written is removed by the next one.
 */
export class FileStorage implements Storage {
  readonly #directory: string
  readonly #ttl: number | undefined
  #sweep: Promise<void> | undefined
  #pruning: NodeJS.Timeout | undefined

  /**
   * @param directory a path, relative to the working directory of now; made by the first write. It is the storage's
   *   own: with a `ttl` every old `.json` file in it is removed. Default `./bot-state`.
   * @param options `ttl`, in seconds, by default for ever
   * @throws FST_BOTAS_STATE_INVALID_OPTION where one of them is wrong
   */
  constructor (directory = './bot-state', options: FileStorageOptions = {}) {
    assertKnownOptions(options, ['ttl'])
    const { ttl } = options
    assertWholeNumber('ttl', ttl, 'seconds')
    if (typeof directory !== 'string' || directory === '') {
      throw new FST_BOTAS_STATE_INVALID_OPTION('directory', 'a path', directory === '' ? 'an empty string' : kindOf(directory))
    }
    this.#directory = resolve(directory)
    this.#ttl = ttl
  }

  /**
   * The documents of these keys, after all changes of theirs that are under way; a key that is not stored is left out.
   *
   * @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where a file is no JSON object in UTF-8
   */
  async read (keys: string[]): Promise<Record<string, StateDocument>> {
    return documentsOf(keys, await this.#find(keys))
  }

  /**
   * Replaces whole documents, whatever is stored.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE, and then writes nothing
   */
  async write (changes: Record<string, unknown>): Promise<void> {
    const texts = encodeDocuments(changes)
    await Promise.all(texts.map(([key, text]) => this.#inTurn(key, (path) => this.#write(path, text))))
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
    await this.#inTurn(key, async (path) => {
      await this.#unlinkExpired(path)
      const stored = await readDocument(path, key)
      const next = change(stored?.document)
      if (next !== undefined) await this.#write(path, encodeDocument(next, key, stored))
      else if (stored !== undefined) await ifThere(unlink(path))
    })
  }

  /** Removes the files whose `ttl` has passed. Runs by itself now and then. */
  async prune (): Promise<void> {
    for await (const entry of await ifThere(opendir(this.#directory)) ?? []) {
      if (entry.isFile() && isDocumentName(entry.name)) await this.#removeExpired(join(this.#directory, entry.name))
    }
  }

  /** Ends the clean-up of the first use. Nothing else is held open between calls. */
  async close (): Promise<void> {
    clearInterval(this.#pruning)
    this.#pruning = undefined
    await this.#sweep
  }

  /** The first use cleans up behind a process that was killed, on the side. */
  #path (key: string): string {
    this.#sweep ??= sweep(this.#directory)
    // What is not removed is not read either: the next time may succeed.
    if (this.#ttl !== undefined) this.#pruning ??= pruneRegularly(() => this.prune().catch(() => {}), this.#ttl)
    return join(this.#directory, fileName(key))
  }

  static {
    allowDirectAccess(this.prototype, {
      read: (storage, keys) => storage.#find(keys),
      update: (storage, key, change) => storage.update(key, change)
    })
  }

  async #find (keys: string[]): Promise<Found<StoredDocument>> {
    const paths = keys.map((key) => this.#path(key))
    if (files.isBusy(paths)) await files.settled(paths)
    return Promise.all(keys.map(async (key, index) => {
      const path = paths[index] as string
      await this.#removeExpired(path)
      return readDocument(path, key)
    }))
  }

  async #inTurn (key: string, work: (path: string) => Promise<void>): Promise<void> {
    const path = this.#path(key)
    await files.run([path], (turn) => turn.then(() => work(path)))
  }

  async #write (path: string, text: string): Promise<void> {
    const aside = join(this.#directory, `${ASIDE}${asideCount++}.tmp`)
    try {
      await writeSynced(await this.#create(aside), text)
      await rename(aside, path)
    } catch (error) {
      // The first error is the one to report, whatever the clean-up does.
      await ifThere(unlink(aside)).catch(() => {})
      throw error
    }
  }

  /** Opens a new file, and makes the directory where that is not there yet, or no longer. */
  async #create (path: string): Promise<number> {
    const file = await ifThere(open(path, 'wx'))
    if (file !== undefined) return file
    await mkdir(this.#directory, { recursive: true })
    return open(path, 'wx')
  }

  /** A file that is expired now may be replaced in a moment: it is looked at again when it is its turn. */
  async #removeExpired (path: string): Promise<void> {
    if (await this.#isExpired(path)) await files.run([path], (turn) => turn.then(() => this.#unlinkExpired(path)))
  }

  async #unlinkExpired (path: string): Promise<void> {
    if (await this.#isExpired(path)) await ifThere(unlink(path))
  }

  /** Every save renames a new file into place, so the time of its last change is that of the save. */
  async #isExpired (path: string): Promise<boolean> {
    if (this.#ttl === undefined) return false
    const found = await ifThere(stat(path))
    return found !== undefined && found.mtimeMs + this.#ttl * 1000 <= Date.now()
  }
}

/** Removes the temporary files of earlier processes. What cannot be removed is no reason to fail: it is never read. */
async function sweep (directory: string): Promise<void> {
  try {
    for await (const { name } of await opendir(directory)) {
      if (/^=.+\.tmp$/.test(name) && !name.startsWith(ASIDE)) await unlink(join(directory, name))
    }
  } catch {}
}

async function readDocument (path: string, key: string): Promise<StoredDocument | undefined> {
  const bytes = await ifThere(readFile(path))
  return bytes && new StoredDocument(bytes, key)
}

async function writeSynced (file: number, text: string): Promise<void> {
  try {
    await writeFile(file, text)
    await fsync(file)
  } finally {
    await close(file)
  }
}

/** What is done with a file or directory, or `undefined` where there is none. */
async function ifThere<Result> (work: Promise<Result>): Promise<Result | undefined> {
  try {
    return await work
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
