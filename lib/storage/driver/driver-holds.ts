import type { Document } from '../../document/document.js'
import { KeyedQueue } from '../../waiting/keyed-queue.js'
import { pauseAfterConflict } from '../compare-and-set.js'
import type { Entry, Hold, Holds, TurnEnd } from '../document-store.js'
import { inTurn } from '../in-turn.js'
import type { StorageCall } from '../storage.js'
import type { Driver, Removal, Row, RowWrite } from './driver.js'
import { Line } from './line.js'
import { type Mark, hasMark, withMark } from './marks.js'

/** Begins the row of an activity that was handled, before the reply that was kept; otherwise it names who handles it. */
const HANDLED = '='

/** How rows are read and written, behind the gate. */
interface Rows {
  read(keys: string[], call: StorageCall): Promise<{ rows: Row[], now: number }>
  write(writes: RowWrite[], call: StorageCall): Promise<boolean>
  load(keys: string[], call: StorageCall): Promise<Array<Document | undefined>>
}

/** How the end of a turn is written together with its documents; without writes it is refused. */
export type Ending =
  | { outcome: 'saved' | 'overlapped', writes: RowWrite[] }
  | { outcome: 'replaced' | 'handled', writes?: never }

/** The rows beside a document: the place of the turns that are about it, and the activity that is handled. */
interface Held {
  readonly activity: Row | undefined
  readonly place: Row | undefined
  readonly line: Line
}

/** What becomes of these rows: a text, or '' to remove it; left out where one stays as it is. */
interface HeldTexts {
  readonly activity?: string
  readonly line?: Line
}

/** What turns hold on a server that is asked by a driver: rows beside those of the documents. */
export class DriverHolds implements Holds {
  readonly isShared = true
  readonly #driver: Driver
  readonly #rows: Rows
  /** the changes of this process: an earlier turn that is overtaken would take the place from a later one */
  readonly #changes = new KeyedQueue()

  constructor (driver: Driver, rows: Rows) {
    this.#driver = driver
    this.#rows = rows
  }

  get remembers (): boolean {
    return this.#driver.isAtomic
  }

  get isLeftBySave (): boolean {
    return this.#driver.isAtomic
  }

  async enter (hold: Hold, keys: string[], call: StorageCall): Promise<Entry> {
    const entry = await this.#change<Entry>(hold, call, ({ activity, place, line }) => {
      const text = textOf(activity)
      if (text.startsWith(HANDLED)) return { result: { outcome: 'done', reply: text.slice(HANDLED.length) } }
      if (text !== '' && !text.startsWith(hold.origin)) return { result: { outcome: 'running' } }
      const claim = hold.activity === undefined ? {} : { activity: hold.holder }
      if (hold.place === undefined) return { result: { outcome: 'entered', documents: [] }, ...claim }
      const outcome = line.enter({ ...hold, ...hold.place })
      // One that is refused is not in line.
      if (outcome === 'taken' || outcome === 'replaced') return { result: { outcome }, ...claim }
      if (outcome === 'entered') return { result: { outcome, documents: [] }, ...claim, line }
      return { result: { outcome }, ...(text === hold.holder && isUnchanged(line, place) ? {} : claim), line }
    })
    return entry.outcome === 'entered' ? { ...entry, documents: await this.#rows.load(keys, call) } : entry
  }

  renew (hold: Hold, call: StorageCall): Promise<boolean> {
    return this.#change<boolean>(hold, call, ({ activity, place, line }) => {
      const claim = textOf(activity) === hold.holder ? { activity: hold.holder } : {}
      if (hold.place === undefined) return { result: true, ...claim }
      if (!line.isHeldBy(hold.holder)) return { result: false, ...claim }
      line.renew({ ...hold, ...hold.place })
      return { result: true, ...(isUnchanged(line, place) ? {} : claim), line }
    })
  }

  async leave (hold: Hold, call: StorageCall): Promise<void> {
    await this.#change<void>(hold, call, ({ activity, line }) => {
      line.leave(hold.holder)
      return { result: undefined, line, ...(textOf(activity) === hold.holder ? { activity: '' } : {}) }
    })
  }

  /**
   * What is written at the end of a turn together with its documents, as long as nothing comes between; where that cannot be, it is
   * written now.
   *
   * @param mark of the save
   * @param before what became of it, if it was written already
   */
  async ending (end: TurnEnd, mark: Mark, before: Ending['outcome'], call: StorageCall): Promise<Ending> {
    const { hold, reply, leaves } = end
    if (!this.#driver.isAtomic) return this.#endingBefore(hold, call)
    const isRemembered = reply !== undefined
    const held = await this.#read({ ...hold, activity: isRemembered ? hold.activity : undefined }, call)
    if ([held.activity, held.place].some((row) => row !== undefined && hasMark(row.marks, mark))) return { outcome: before, writes: [] } as Ending
    if (textOf(held.activity).startsWith(HANDLED)) return { outcome: 'handled' }
    const isHeld = hold.place === undefined || held.line.isHeldBy(hold.holder)
    if (!isHeld && hold.place?.isReplaceable === true) return { outcome: 'replaced' }
    if (leaves) held.line.leave(hold.holder)
    return {
      outcome: isHeld ? 'saved' : 'overlapped',
      writes: this.#writesOf(hold, held, { line: held.line, ...(isRemembered ? { activity: HANDLED + reply } : {}) }, mark)
    }
  }

  /** From now on a later turn waits until this one is saved, instead of replacing it. */
  async #endingBefore (hold: Hold, call: StorageCall): Promise<Ending> {
    const isHeld = await this.renew({ ...hold, place: hold.place && { ...hold.place, isReplaceable: false } }, call)
    if (!isHeld && hold.place?.isReplaceable === true) return { outcome: 'replaced' }
    return { outcome: isHeld ? 'saved' : 'overlapped', writes: [] }
  }

  /** Changes what a turn holds, after the turns of this process that asked before, and as often as something comes between. */
  #change<Result> (hold: Hold, call: StorageCall, decide: (held: Held) => HeldTexts & { result: Result }): Promise<Result> {
    return inTurn(this.#changes, [hold.key], call, () => this.#changeNow(hold, call, decide))
  }

  async #changeNow<Result> (hold: Hold, call: StorageCall, decide: (held: Held) => HeldTexts & { result: Result }): Promise<Result> {
    for (let attempt = 0; ; attempt++) {
      const held = await this.#read(hold, call)
      const { result, ...texts } = decide(held)
      const writes = this.#writesOf(hold, held, texts)
      if (writes.length === 0 || await this.#rows.write(writes, call)) return result
      await pauseAfterConflict(attempt, call)
    }
  }

  async #read (hold: Hold, call: StorageCall): Promise<Held> {
    const keys = [...(hold.activity === undefined ? [] : [activityKey(hold)]), ...(hold.place === undefined ? [] : [placeKey(hold)])]
    const { rows, now } = keys.length === 0 ? { rows: [], now: 0 } : await this.#rows.read(keys, call)
    const activity = hold.activity === undefined ? undefined : rows.shift()
    return { activity, place: rows[0], line: new Line(textOf(rows[0]), hold.holder, now) }
  }

  #writesOf (hold: Hold, { activity, place }: Held, texts: HeldTexts, mark?: Mark): RowWrite[] {
    const writes: RowWrite[] = []
    if (activity !== undefined && texts.activity !== undefined) {
      const lifetime = texts.activity.startsWith(HANDLED) ? (hold.activity?.ttl as number) * 1000 : hold.lease
      writes.push(write(activityKey(hold), activity, texts.activity, lifetime, mark))
    }
    const { line } = texts
    // A save is compared with the place, also where it does not leave it.
    if (place !== undefined && line !== undefined && (mark !== undefined || !isUnchanged(line, place))) {
      writes.push(write(placeKey(hold), place, line.toString(), line.lifetime, mark))
    }
    return writes
  }
}

/** Turns that wait, or may be replaced, ask often: their claims are renewed when their places in the line are. */
function isUnchanged (line: Line, place: Row | undefined): boolean {
  return line.toString() === textOf(place)
}

function write (key: string, row: Row, text: string, lifetime: number, mark: Mark | undefined): RowWrite {
  return { key, row, text: text === '' ? undefined : text, marks: mark === undefined ? row.marks : withMark(row.marks, mark), lifetime }
}

function textOf (row: Row | undefined): string {
  return row?.text?.toString() ?? ''
}

/** What was kept beside documents of which nothing is to be left: activities that were handled. */
export function handledBeside (keys: string[]): Removal {
  return { keys: keys.map(activityBeginning), text: HANDLED }
}

/** Control characters are in no id, so that no document has such a key. */
function placeKey ({ key }: Hold): string {
  return `\0place\0${key}`
}

function activityKey ({ key, activity }: Hold): string {
  return `${activityBeginning(key)}${activity?.id}`
}

function activityBeginning (key: string): string {
  return `\0activity\0${key}\0`
}
