import { randomBytes } from 'node:crypto'
import type { ChangeDocument, StateDocument } from '../../document/document.js'
import { TextDocument, documentsOf } from '../../document/text-document.js'
import { KeyedQueue } from '../../waiting/keyed-queue.js'
import { type Comparing, type Replacement, type Save, compareAndSet, forgottenIn, savesOf } from '../compare-and-set.js'
import { type DocumentChange, type DocumentStore, type Holds, type SaveOutcome, type TurnEnd, isSavedBy, noteOutcome, saveEach } from '../document-store.js'
import type { Lifetime } from '../expiry.js'
import { assertWellFormed } from '../file-name.js'
import { inTurn } from '../in-turn.js'
import { OutageGate } from '../outage-gate.js'
import type { Patience } from '../patience.js'
import { ReadDocuments } from '../read-documents.js'
import type { OutageObserver, StorageCall } from '../storage.js'
import { type Driver, UNREAD, type Row, type RowWrite } from './driver.js'
import { type Ending, DriverHolds, handledBeside } from './driver-holds.js'
import { type Mark, hasMark, withMark } from './marks.js'

/** How many documents are written at once. */
const AT_A_TIME = 50

/** How long a step of what is about all documents may take, in milliseconds. */
const SWEEP_TIMEOUT = 60_000

/** A document as it is taken to be stored. */
interface StoredDocument {
  readonly document: TextDocument | undefined
  readonly row: Row
}

/** The documents on a server that is asked by a driver, and what turns hold beside them. */
export class DriverDocuments implements DocumentStore {
  readonly holds: Holds
  readonly #driver: Driver
  readonly #lifetime: Lifetime
  readonly #gate: OutageGate
  readonly #holds: DriverHolds
  /** the saves of this process: those of one key follow each other, which also spares them conflicts */
  readonly #saves = new KeyedQueue()
  readonly #origin = randomBytes(9).toString('base64url')
  #saveCount = 0
  readonly #given = new ReadDocuments()

  constructor (driver: Driver, lifetime: Lifetime) {
    this.#driver = driver
    this.#lifetime = lifetime
    this.#gate = new OutageGate(driver)
    this.#holds = new DriverHolds(driver, {
      read: (keys, call) => this.#gate.send((patience) => driver.readAndTellTime(keys, patience), call),
      write: (writes, call) => this.#gate.send((patience) => driver.write(writes, patience), call),
      load: (keys, call) => this.load(keys, call)
    })
    this.holds = this.#holds
  }

  watch (observer: OutageObserver): () => void {
    return this.#gate.watch(observer)
  }

  close (): void {
    this.#gate.close()
  }

  /** What is about all documents is given up. */
  endSweeps (): void {
    this.#gate.endBackground()
  }

  /** Sends what is about all documents and may take long, once. */
  sweep<Result> (command: (patience: Patience) => Promise<Result>): Promise<Result> {
    return this.#gate.sendInBackground(command, SWEEP_TIMEOUT)
  }

  /** See `Storage`. */
  async read (keys: string[], call?: StorageCall): Promise<Record<string, StateDocument>> {
    return this.#given.give(keys, await this.load(keys, call))
  }

  /** See `Storage`. */
  async write (changes: Record<string, unknown>, call?: StorageCall): Promise<void> {
    await this.#replaceEach(documentsOf(changes).map(([key, document]) => ({ key, loaded: undefined, change: () => document })), call)
  }

  /** See `Storage`. */
  async delete (keys: string[], call?: StorageCall): Promise<void> {
    await this.#replaceEach([...new Set(keys)].map((key) => ({ key, loaded: undefined, change: () => undefined })), call)
  }

  /** See `Storage`. */
  async update (key: string, change: ChangeDocument, loaded?: StateDocument, call?: StorageCall): Promise<void> {
    await this.#replace([{
      key, loaded: this.#given.of(loaded), change: (stored) => TextDocument.changed(stored, change, key)
    }], call)
  }

  async load (keys: string[], call?: StorageCall): Promise<Array<TextDocument | undefined>> {
    const stored = await this.#load(keys, this.#lifetime.isRenewedByLoads && call?.renews !== false ? this.#milliseconds : 0, call)
    return stored.map(({ document }) => document)
  }

  timeLeft (key: string, call: StorageCall): Promise<number> {
    assertWellFormed(key)
    return this.#gate.send((patience) => this.#driver.timeLeft(key, patience), call)
  }

  async save (changes: DocumentChange[], call: StorageCall, end?: TurnEnd): Promise<SaveOutcome> {
    if (this.#driver.isAtomic) return noteOutcome(changes, await this.#replace(savesOf(changes), call, end))
    const save = (change: DocumentChange): Promise<SaveOutcome> => this.#replace(savesOf([change]), call)
    if (end === undefined) return saveEach(changes, save)
    // The document that the place is about comes first: a turn that took the place has changed it, or will find it changed.
    const isFirst = ({ key }: DocumentChange): boolean => key === end.hold.key
    const first = changes.filter(isFirst)
    const outcome = noteOutcome(first, await this.#replace(savesOf(first), call, end))
    // Nothing of a turn that is refused is saved.
    if (isSavedBy(outcome)) await saveEach(changes.filter((change) => !isFirst(change)), save)
    return outcome
  }

  get #milliseconds (): number {
    return this.#lifetime.seconds * 1000
  }

  async #load (keys: string[], lifetime: number, call: StorageCall | undefined): Promise<StoredDocument[]> {
    if (keys.length === 0) return []
    keys.forEach(assertWellFormed)
    const rows = await this.#gate.send((patience) => this.#driver.read(keys, lifetime, patience), call)
    return rows.map((row, index) => ({ document: documentOf(row, keys[index] as string), row }))
  }

  /** Many documents, some at a time. */
  async #replaceEach (saves: Save[], call: StorageCall | undefined): Promise<void> {
    for (let begin = 0; begin < saves.length; begin += AT_A_TIME) {
      const some = saves.slice(begin, begin + AT_A_TIME)
      if (this.#driver.isAtomic) await this.#replace(some, call)
      else await Promise.all(some.map((save) => this.#replace([save], call)))
    }
  }

  /** Saves documents in one step, with what the turn holds where the driver is atomic, and otherwise as long as it holds that. */
  async #replace (saves: Save[], call: StorageCall | undefined, end?: TurnEnd): Promise<SaveOutcome> {
    const keys = saves.map(({ key }) => key)
    keys.forEach(assertWellFormed)
    return inTurn(this.#saves, keys, call, () => compareAndSet(saves, saves.map(storedAsLoaded), this.#comparing(saves, call, end), call))
  }

  /** How one save compares and sets, in all its attempts by one mark. */
  #comparing (saves: Save[], call: StorageCall | undefined, end: TurnEnd | undefined): Comparing<StoredDocument, SaveOutcome> {
    const mark = { origin: this.#origin, number: this.#saveCount++ }
    const load = (): Promise<StoredDocument[]> => this.#load(saves.map(({ key }) => key), 0, call)
    const forgotten = forgottenIn(saves)
    const removal = forgotten.length === 0 ? undefined : handledBeside(forgotten)
    let ending: Ending = { outcome: 'saved', writes: [] }
    return {
      documentOf: ({ document }) => document,
      load,
      set: async (replacements) => {
        // Where nothing may be to be removed, that has to be looked at.
        if (replacements.some(({ stored, next }) => stored.row === UNREAD && next === undefined)) return { stored: await load() }
        const { outcome } = ending
        if (end !== undefined) ending = await this.#holds.ending(end, mark, outcome, call as StorageCall)
        if (ending.writes === undefined) return ending
        const writes = [...replacements.flatMap((replacement) => this.#writesOf(replacement, mark)), ...ending.writes]
        if (writes.length === 0 && removal === undefined) return ending
        if (await this.#gate.send((patience) => this.#driver.write(writes, patience, removal), call)) return ending
        const stored = await load()
        // All or none: one that has been removed since says nothing.
        return stored.some(({ row }) => hasMark(row.marks, mark)) ? ending : { stored }
      }
    }
  }

  #writesOf ({ key, stored: { row }, next }: Replacement<StoredDocument>, mark: Mark): RowWrite[] {
    // Nothing is there to be removed.
    if (next === undefined && row.version === undefined) return []
    return [{ key, row, text: next?.content, marks: withMark(row.marks, mark), lifetime: this.#milliseconds }]
  }
}

function documentOf (row: Row, key: string): TextDocument | undefined {
  if (row.text === undefined) return undefined
  return TextDocument.stored(Buffer.isBuffer(row.text) ? row.text : Buffer.from(row.text), key, row)
}

function storedAsLoaded ({ loaded }: Save): StoredDocument {
  return { document: loaded, row: loaded === undefined ? UNREAD : loaded.version as Row }
}
