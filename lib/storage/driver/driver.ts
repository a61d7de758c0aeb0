import type { Link } from '../outage-gate.js'
import type { Patience } from '../patience.js'

/** What a server keeps under a key. */
export interface Row {
  /** Left out where there is nothing, or where its time has passed. */
  readonly text: Buffer | string | undefined
  /** What the next write is compared with; left out where the server has nothing at all. */
  readonly version: string | undefined
  /** The last writes, see `marks.ts`. */
  readonly marks: string
  /** When its time has passed, by the clock of the server, where the server itself does not compare that. */
  readonly expires?: number
}

/** Of a key that was not read: a guess. */
export const UNREAD: Row = { text: undefined, version: undefined, marks: '' }

/** What a row is to become. */
export interface RowWrite {
  readonly key: string
  /** As it was read. */
  readonly row: Row
  /** Left out to remove it. */
  readonly text: Buffer | string | undefined
  readonly marks: string
  /** In milliseconds from now, 0 for ever. */
  readonly lifetime: number
}

/** Rows whose keys begin like one of these, and whose texts begin so. */
export interface Removal {
  readonly keys: string[]
  readonly text: string
}

/** The little by which a server is asked: all that is not said here is the same for every server. */
export interface Driver extends Link {
  /** Whether several rows are written in one step, and read as of one moment. */
  readonly isAtomic: boolean
  /**
   * The rows of these keys, in their order.
   *
   * @param lifetime that the found ones get from now on, in milliseconds, 0 to leave them as they are
   */
  read(keys: string[], lifetime: number, patience: Patience): Promise<Row[]>
  /** The same, and the time of the server, in milliseconds. */
  readAndTellTime(keys: string[], patience: Patience): Promise<{ rows: Row[], now: number }>
  /** How long a row is kept from now, in milliseconds, `Infinity` for ever. */
  timeLeft(key: string, patience: Patience): Promise<number>
  /**
   * Writes rows where each is still as it was read: all or none, where that is one step. Resolves to whether they were.
   *
   * @param removal of what else goes in the same step; left out by who keeps nothing but documents for longer than a turn
   */
  write(writes: RowWrite[], patience: Patience, removal?: Removal): Promise<boolean>
}
