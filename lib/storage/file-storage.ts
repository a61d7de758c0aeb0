import { randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, opendir, readFile, rename, unlink } from 'node:fs/promises'
import { isUtf8 } from 'node:buffer'
import { join, resolve } from 'node:path'
import { type ChangeDocument, type StateDocument, type StoredDocument, encodeDocument, encodeDocuments, parseDocument } from '../document.js'
import { FST_BOTAS_STATE_CORRUPT_DOCUMENT, FST_BOTAS_STATE_INVALID_OPTION, kindOf } from '../errors.js'
import { KeyQueue } from '../key-queue.js'
import { fileName } from './file-name.js'
import type { Storage } from './storage.js'

/** Begins the names of the temporary files of this process; `=` keeps them apart from every document, see fileName. */
const ASIDE = `=${randomUUID()}-`
let asideCount = 0

/** The files that this process changes, by path: several storages may be open on one directory. */
const files = new KeyQueue()

/**
 * State in a directory, one JSON file a document, for one process at a time. A file is always complete: it is written
 * aside, synced and renamed. What a killed process left half-written is removed by the next one.
 */
export class FileStorage implements Storage {
  readonly #directory: string
  #sweep: Promise<void> | undefined

  /**
   * @param directory a path, relative to the working directory of now; made by the first write. Default `./bot-state`.
   * @throws FST_BOTAS_STATE_INVALID_OPTION where it is no path
   */
  constructor (directory = './bot-state') {
    if (typeof directory !== 'string' || directory === '') {
      throw new FST_BOTAS_STATE_INVALID_OPTION('directory', 'a path', directory === '' ? 'an empty string' : kindOf(directory))
    }
    this.#directory = resolve(directory)
  }

  /**
   * The documents of these keys, after all changes of theirs that are under way; a key that is not stored is left out.
   *
   * @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where a file is no JSON object in UTF-8
   */
  async read (keys: string[]): Promise<Record<string, StateDocument>> {
    await files.settled(keys.map((key) => this.#path(key)))
    const found = await Promise.all(keys.map(async (key) => [key, (await this.#read(key))?.document] as const))
    return Object.fromEntries(found.filter((entry): entry is [string, StateDocument] => entry[1] !== undefined))
  }

  /**
   * Replaces whole documents, whatever is stored.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE, and then writes nothing
   */
  async write (changes: Record<string, unknown>): Promise<void> {
    const texts = encodeDocuments(changes)
    await Promise.all(texts.map(([key, text]) => this.#inTurn(key, () => this.#write(key, text))))
  }

  /** Deletes documents; a key that is not stored is no error. */
  async delete (keys: string[]): Promise<void> {
    await Promise.all(keys.map((key) => this.#inTurn(key, () => this.#delete(key))))
  }

  /**
   * Changes one document. Changes of one key run one after another, within this process.
   *
   * @throws what `change` throws, and FST_BOTAS_STATE_CORRUPT_DOCUMENT or FST_BOTAS_STATE_NOT_SERIALIZABLE
   */
  async update (key: string, change: ChangeDocument): Promise<void> {
    await this.#inTurn(key, async () => {
      const stored = await this.#read(key)
      const next = change(stored?.document)
      if (next !== undefined) await this.#write(key, encodeDocument(next, key, stored))
      else if (stored !== undefined) await this.#delete(key)
    })
  }

  /** Ends the clean-up of the first use. Nothing else is held open between calls. */
  async close (): Promise<void> {
    await this.#sweep
  }

  /** The first use cleans up behind a process that was killed, on the side. */
  #path (key: string): string {
    this.#sweep ??= sweep(this.#directory)
    return join(this.#directory, fileName(key))
  }

  async #inTurn (key: string, work: () => Promise<void>): Promise<void> {
    await files.run([this.#path(key)], (turn) => turn.then(work))
  }

  async #read (key: string): Promise<StoredDocument | undefined> {
    let bytes: Buffer
    try {
      bytes = await readFile(this.#path(key))
    } catch (error) {
      if (isMissing(error)) return undefined
      throw error
    }
    if (!isUtf8(bytes)) throw new FST_BOTAS_STATE_CORRUPT_DOCUMENT(key, 'no UTF-8')
    const text = bytes.toString()
    return { text, document: parseDocument(text, key) }
  }

  async #write (key: string, text: string): Promise<void> {
    await mkdir(this.#directory, { recursive: true })
    const aside = join(this.#directory, `${ASIDE}${asideCount++}.tmp`)
    try {
      await writeSynced(await open(aside, 'wx'), text)
      await rename(aside, this.#path(key))
    } catch (error) {
      // The first error is the one to report, whatever the clean-up does.
      await unlinkIfThere(aside).catch(() => {})
      throw error
    }
  }

  async #delete (key: string): Promise<void> {
    await unlinkIfThere(this.#path(key))
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

async function writeSynced (file: FileHandle, text: string): Promise<void> {
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
}

async function unlinkIfThere (path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if (!isMissing(error)) throw error
  }
}

function isMissing (error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT'
}
