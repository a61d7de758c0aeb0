import { randomUUID } from 'node:crypto'
import * as fs from 'node:fs'
import { mkdir, opendir, unlink } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { ChangeDocument, StateDocument } from '../../document/document.js'
import { TextDocument, documentsOf, objectsOf } from '../../document/text-document.js'
import { FST_BOTAS_STATE_CORRUPT_DOCUMENT } from '../../errors.js'
import { KeyedQueue } from '../../waiting/keyed-queue.js'
import { describeType } from '../../document/describe-type.js'
import { assertKnownOptions, assertWholeNumber, describeUrl, invalidOption, schemeOf } from '../option-checks.js'
import { provideDocumentStore, saveEach } from '../document-store.js'
import { type Expiry, pruneRegularly } from '../expiry.js'
import { fileName, isDocumentName } from './file-name.js'
import { ifThere } from './if-there.js'
import { realPath } from './real-path.js'
import type { Storage } from '../storage.js'

/** What every turn needs: of `node:fs/promises` these cost up to three times as much. */
const open = promisify(fs.open)
const fchmod = promisify(fs.fchmod)
const read = promisify(fs.read)
const writeFile = promisify(fs.writeFile)
const fsync = promisify(fs.fsync)
const close = promisify(fs.close)
const rename = promisify(fs.rename)
const stat = promisify(fs.stat)

/** Begins the names of the temporary files of this process; `=` keeps them apart from every document, see fileName. */
const ASIDE = `=${randomUUID()}-`
let asideCount = 0

/** The files that this process changes, by path: several storages may be open on one directory. */
const files = new KeyedQueue()

/** A FIFO is opened without waiting for somebody who writes to it. */
const READ_ONLY = fs.constants.O_RDONLY | fs.constants.O_NONBLOCK
/** What systems say when something that is no file, a socket for instance, is opened. */
const NO_FILE = new Set<string | undefined>(['ENXIO', 'EOPNOTSUPP', 'ENODEV', 'EISDIR'])
const PERMISSIONS = 0o7777

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
    return objectsOf(keys, await this.#find(keys))
  }

  /**
   * Replaces whole documents, whatever they say.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE, and then writes nothing, or FST_BOTAS_STATE_CORRUPT_DOCUMENT where a file is no
   *   regular one
   */
  async write (changes: Record<string, unknown>): Promise<void> {
    await Promise.all(documentsOf(changes).map(([key, document]) =>
      this.#inTurn(key, async (path) => this.#write(path, bytesOf(document), await modeOf(path, key)))))
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

  /** The first use cleans up behind a process that was killed, on the side. */
  async #use (): Promise<string> {
    const directory = await this.#locate()
    this.#sweep ??= sweep(directory)
    // What is not removed is not read either: the next time may succeed.
    if (this.#ttl !== undefined) this.#pruning ??= pruneRegularly(() => this.prune().catch(() => {}), this.#ttl)
    return directory
  }

  static {
    provideDocumentStore(this.prototype, (storage) => ({
      load: (keys) => storage.#find(keys),
      save: (changes) => saveEach(changes, ({ key, loaded, edit }) =>
        storage.#replace(key, loaded as TextDocument | undefined, (stored) => TextDocument.edited(stored, edit, key)))
    }))
  }

  async #find (keys: string[]): Promise<Array<TextDocument | undefined>> {
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
      if (next !== undefined) await this.#write(path, bytesOf(next), permissionsOf(stored))
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

  /** @param mode of the file that is replaced; without one the system decides */
  async #write (path: string, content: Buffer, mode: number | undefined): Promise<void> {
    const aside = join(dirname(path), `${ASIDE}${asideCount++}.tmp`)
    try {
      await writeSynced(await create(aside, mode), content, mode)
      await rename(aside, path)
    } catch (error) {
      // The first error is the one to report, whatever the clean-up does.
      await ifThere(unlink(aside)).catch(() => {})
      throw error
    }
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

  /** Every save renames a new file into place, so the time of its last change is that of the save. */
  async #isExpired (path: string): Promise<boolean> {
    if (this.#ttl === undefined) return false
    const found = await ifThere(stat(path))
    return found !== undefined && found.isFile() && found.mtimeMs + this.#ttl * 1000 <= Date.now()
  }
}

function invalidDirectory (got: string): Error {
  return invalidOption('directory', 'a path', got)
}

/** Removes the temporary files of earlier processes. What cannot be removed is no reason to fail: it is never read. */
async function sweep (directory: string): Promise<void> {
  try {
    for await (const { name } of await opendir(directory)) {
      if (/^=.+\.tmp$/.test(name) && !name.startsWith(ASIDE)) await unlink(join(directory, name))
    }
  } catch {}
}

async function readDocument (path: string, key: string): Promise<TextDocument | undefined> {
  try {
    return await readFile(path, key)
  } catch (error) {
    if (error instanceof FST_BOTAS_STATE_CORRUPT_DOCUMENT) return TextDocument.stored(error, key)
    throw error
  }
}

/** fstatSync does not block: the system has looked that up to open the file. */
async function readFile (path: string, key: string): Promise<TextDocument | undefined> {
  const file = await ifThere(open(path, READ_ONLY).catch((error: NodeJS.ErrnoException) => {
    throw NO_FILE.has(error.code) ? notAFile(key) : error
  }))
  if (file === undefined) return undefined
  try {
    const stats = fs.fstatSync(file, { bigint: true })
    if (!stats.isFile()) throw notAFile(key)
    return TextDocument.stored(await readAll(file, Number(stats.size)), key, stats)
  } finally {
    await close(file)
  }
}

/** Whether a document that was loaded is stored still, by what the system says of its file. */
async function isStored (path: string, loaded: TextDocument | undefined): Promise<boolean> {
  const before = loaded?.version as fs.BigIntStats | undefined
  if (before === undefined) return false
  const now = await ifThere(stat(path, { bigint: true }))
  return now !== undefined && now.ino === before.ino && now.ctimeNs === before.ctimeNs && now.size === before.size
}

/** Encoded at once: the garbage collector copies a text around that waits for the file system. */
function bytesOf ({ content }: TextDocument): Buffer {
  return typeof content === 'string' ? Buffer.from(content) : content
}

/** The permissions of the file of a document, if that is one. */
function permissionsOf (document: TextDocument | undefined): number | undefined {
  const stats = document?.version as fs.BigIntStats | undefined
  return stats && Number(stats.mode) & PERMISSIONS
}

/** @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where what is there is no regular file */
async function modeOf (path: string, key: string): Promise<number | undefined> {
  const stats = await ifThere(stat(path))
  if (stats?.isFile() === false) throw notAFile(key)
  return stats && stats.mode & PERMISSIONS
}

function notAFile (key: string): Error {
  return new FST_BOTAS_STATE_CORRUPT_DOCUMENT(key, 'not a regular file')
}

async function readAll (file: number, size: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(size)
  let length = 0
  let bytesRead: number
  do {
    ({ bytesRead } = await read(file, bytes, length, size - length, null))
    length += bytesRead
  } while (bytesRead > 0 && length < size)
  return bytes.subarray(0, length)
}

/** Opens a new file, and makes its directory where that is not there yet, or no longer. */
async function create (path: string, mode: number | undefined): Promise<number> {
  const file = await ifThere(open(path, 'wx', mode))
  if (file !== undefined) return file
  await mkdir(dirname(path), { recursive: true })
  return open(path, 'wx', mode)
}

/** The umask took permissions from the new file: until it has them back, it has fewer than the one that it replaces. */
async function writeSynced (file: number, content: Buffer, mode: number | undefined): Promise<void> {
  try {
    await writeFile(file, content)
    if (mode !== undefined && (fs.fstatSync(file).mode & PERMISSIONS) !== mode) await fchmod(file, mode)
    await fsync(file)
  } finally {
    await close(file)
  }
}
