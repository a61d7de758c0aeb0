import { opendir, unlink, utimes } from 'node:fs/promises'
import { basename, dirname, join, relative, resolve } from 'node:path'
import type { ChangeDocument, StateDocument } from '../../document/document.js'
import { TextDocument, documentsOf, objectsOf } from '../../document/text-document.js'
import { KeyedQueue } from '../../waiting/keyed-queue.js'
import { settledAll } from '../../waiting/settled-all.js'
import { describeType } from '../../document/describe-type.js'
import { assertKnownOptions, describeUrl, invalidOption, schemeOf } from '../option-checks.js'
import { type DocumentChange, type Hold, type Holds, type SaveOutcome, type TurnEnd, provideDocumentStore } from '../document-store.js'
import { EXPIRY_OPTIONS, type Expiry, lifetimeOf, pruneRegularly } from '../expiry.js'
import {
  isStored, permissionsAt, permissionsOf, readDocument, removeAside, removeLeftovers, savedAt, writeAside, writeDocument, writeDocumentAside
} from './document-file.js'
import { fileName, isDocumentName } from '../file-name.js'
import { HANDLED, forgetHandled, keptReply, markName, markNames, markOf } from './handled.js'
import { ifThere } from './if-there.js'
import { realPath } from './real-path.js'
import { type SaveStep, doLeftSteps, doSteps } from './save-steps.js'
import type { Storage, StorageCall } from '../storage.js'

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
  readonly #isRenewedByLoads: boolean
  #located: Promise<string> | undefined
  #sweep: Promise<void> | undefined
  #pruning: NodeJS.Timeout | undefined

  /**
   * @param directory a path, relative to the working directory of now; its links are followed at the first use, and it is
   *   made by the first write. It is the storage's own: with a `ttl` every old `.json` file in it is removed. Default
   *   `./bot-state`.
   * @param options `ttl`, in seconds, by default for ever, with `renew`
   * @throws FST_BOTAS_STATE_INVALID_OPTION where one of them is wrong
   */
  constructor (directory = './bot-state', options: FileStorageOptions = {}) {
    assertKnownOptions(options, EXPIRY_OPTIONS)
    const { isRenewedByLoads } = lifetimeOf(options)
    if (typeof directory !== 'string') throw invalidDirectory(describeType(directory))
    // The password of a storage's URL would be in every error of the file system.
    if (directory === '' || schemeOf(directory) !== undefined) throw invalidDirectory(describeUrl(directory))
    this.#directory = resolve(directory)
    this.#ttl = options.ttl
    this.#isRenewedByLoads = isRenewedByLoads
  }

  /**
   * The documents of these keys, after all changes of theirs that are under way; a key that is not stored is left out.
   *
   * @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where a file is no regular one, or no JSON object in UTF-8
   */
  async read (keys: string[], call?: StorageCall): Promise<Record<string, StateDocument>> {
    return objectsOf(keys, await this.#load(keys, call))
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
    await this.#inTurn(key, async (path) => {
      await this.#unlinkExpired(path)
      const stored = await readDocument(path, key)
      const next = TextDocument.changed(stored, change, key)
      if (next !== undefined) await writeDocument(path, next, permissionsOf(stored))
      else if (stored !== undefined) await ifThere(unlink(path))
    })
  }

  /** Removes the files whose `ttl` has passed, and forgets activities. Runs by itself now and then. */
  async prune (): Promise<void> {
    const directory = await this.#locate()
    await forgetHandled(directory)
    if (this.#ttl === undefined) return
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

  /**
   * The real path of the directory, one that has two names is one, once all in it is as it was decided. All calls wait for the same
   * promise and keep their order.
   */
  #locate (): Promise<string> {
    this.#located ??= realPath(this.#directory).then(async (directory) => {
      await doLeftSteps(directory)
      return directory
    }).catch((error) => {
      this.#located = undefined
      throw error
    })
    return this.#located
  }

  /** The first use also removes, in the background, what a killed process left. */
  async #use (): Promise<string> {
    const directory = await this.#locate()
    this.#sweep ??= settledAll([directory, join(directory, HANDLED)].map(removeLeftovers))
    if (this.#ttl !== undefined) this.#pruneRegularly(this.#ttl)
    return directory
  }

  /** What is not removed is not read either: the next time may succeed. */
  #pruneRegularly (seconds: number): void {
    this.#pruning ??= pruneRegularly(() => this.prune().catch(() => {}), Math.min(seconds, this.#ttl ?? seconds))
  }

  static {
    provideDocumentStore(this.prototype, (storage) => ({
      load: (keys, call) => storage.#load(keys, call),
      save: (changes, _call, end) => storage.#save(changes, end),
      timeLeft: (key) => storage.#timeLeft(key),
      holds: storage.#holds
    }))
  }

  readonly #holds: Holds = {
    isShared: false,
    remembers: true,
    isLeftBySave: true,
    enter: async (hold, keys) => {
      const reply = hold.activity && await keptReply(await this.#use(), hold)
      return reply === undefined ? { outcome: 'entered', documents: await this.#readDocuments(keys) } : { outcome: 'done', reply }
    },
    // The turns of this process have waited for each other before.
    renew: async () => true,
    leave: async () => {}
  }

  /** Saves documents, and remembers the activity: all or nothing. */
  async #save (changes: DocumentChange[], end: TurnEnd | undefined): Promise<SaveOutcome> {
    const directory = await this.#use()
    const paths = changes.map(({ key }) => join(directory, fileName(key)))
    const mark = end?.reply === undefined ? undefined : markName(end.hold)
    return files.run(mark === undefined ? paths : [...paths, join(directory, mark)], async (turn) => {
      await turn
      // Another storage object may be open on the directory.
      if (end?.reply !== undefined && await keptReply(directory, end.hold) !== undefined) return 'handled'
      const steps: SaveStep[] = []
      try {
        await settledAll(changes.map(async (change, index) => {
          const step = await this.#prepare(directory, paths[index] as string, change)
          if (step !== undefined) steps.push(step)
        }))
        for (const { key, forgets } of changes) {
          // Not by a spread: they may be more than a call takes arguments.
          if (forgets) for (const step of await stepsToForget(directory, key, mark)) steps.push(step)
        }
        if (end?.reply !== undefined) steps.push(await this.#prepareMark(directory, end.hold, end.reply))
        await doSteps(directory, steps, end?.reply !== undefined)
      } catch (error) {
        await Promise.all(steps.map(async ([aside]) => aside && removeAside(join(directory, aside))))
        throw error
      }
      for (const change of changes) change.isSaved = true
      return 'saved'
    })
  }

  /** Writes what becomes of a document aside. Nothing is to be done where none is stored, nor to be. */
  async #prepare (directory: string, path: string, { key, loaded, edit }: DocumentChange): Promise<SaveStep | undefined> {
    await this.#unlinkExpired(path)
    const before = loaded as TextDocument | undefined
    const stored = await isStored(path, before) ? before : await readDocument(path, key)
    const next = TextDocument.edited(stored, edit, key)
    if (next !== undefined) return [await writeDocumentAside(directory, next, permissionsOf(stored)), basename(path)]
    return stored && [undefined, basename(path)]
  }

  async #prepareMark (directory: string, hold: Hold, reply: string): Promise<SaveStep> {
    const { ttl } = hold.activity as { ttl: number }
    this.#pruneRegularly(ttl)
    const name = markName(hold)
    // In the directory of its place, so that coming there takes nothing that could be missing.
    const aside = await writeAside(dirname(join(directory, name)), markOf(reply, ttl))
    return [relative(directory, aside), name]
  }

  #load (keys: string[], call: StorageCall | undefined): Promise<Array<TextDocument | undefined>> {
    return call?.renews === false ? this.#peek(keys) : this.#readDocuments(keys)
  }

  /** Leaves everything as it is, also what a killed process left, and what is expired. */
  async #peek (keys: string[]): Promise<Array<TextDocument | undefined>> {
    const directory = await realPath(this.#directory)
    return Promise.all(keys.map(async (key) => {
      const path = join(directory, fileName(key))
      return await this.#isExpired(path) ? undefined : readDocument(path, key)
    }))
  }

  async #readDocuments (keys: string[]): Promise<Array<TextDocument | undefined>> {
    const directory = await this.#use()
    const paths = keys.map((key) => join(directory, fileName(key)))
    if (files.isBusy(paths)) await files.settled(paths)
    return Promise.all(keys.map(async (key, index) => {
      const path = paths[index] as string
      await this.#removeExpired(path)
      if (this.#isRenewedByLoads) await ifThere(utimes(path, new Date(), new Date()))
      return readDocument(path, key)
    }))
  }

  async #inTurn (key: string, work: (path: string) => Promise<void>): Promise<void> {
    await this.#changing(join(await this.#use(), fileName(key)), work)
  }

  /** After all changes of the file that are under way. */
  async #changing (path: string, work: (path: string) => Promise<void>): Promise<void> {
    await files.run([path], async (turn) => {
      await turn
      await work(path)
    })
  }

  /** A file that is expired now may be replaced in a moment: it is looked at again when it is its turn. */
  async #removeExpired (path: string): Promise<void> {
    if (await this.#isExpired(path)) await this.#changing(path, () => this.#unlinkExpired(path))
  }

  async #unlinkExpired (path: string): Promise<void> {
    if (await this.#isExpired(path)) await ifThere(unlink(path))
  }

  async #timeLeft (key: string): Promise<number> {
    if (this.#ttl === undefined) return Infinity
    const saved = await savedAt(join(await realPath(this.#directory), fileName(key))) ?? 0
    return Math.max(saved + this.#ttl * 1000 - Date.now(), 0)
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

/**
 * What was kept beside a document goes.
 *
 * @param own the mark that the same save makes, in place of one that is expired: what does the steps again is not to remove it
 */
async function stepsToForget (directory: string, key: string, own: string | undefined): Promise<SaveStep[]> {
  const names = await markNames(directory, key)
  return names.filter((name) => name !== own).map((name) => [undefined, name])
}
