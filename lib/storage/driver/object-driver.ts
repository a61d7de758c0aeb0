import type { Link } from '../outage-gate.js'
import type { Driver, Row, RowWrite } from './driver.js'
import { ServerClock } from './server-clock.js'

/** An object on a server, which changes as a whole. */
export interface StoredObject {
  readonly text: Buffer | string
  readonly etag: string
  /** see `marks.ts` */
  readonly marks: string
  /** When it is over, by the clock of the server, in milliseconds; 0 for never. */
  readonly expires: number
}

/** What an object is to become. */
export interface NewObject extends Omit<StoredObject, 'etag'> {
  /** How long it is from now until it is over, in milliseconds, 0 for ever. */
  readonly lifetime: number
}

/** The answer of a server that tells its time. */
export interface Dated<Result> {
  readonly result: Result
  /** In milliseconds since 1970, left out where it was not told. */
  readonly date: number | undefined
}

/** A server that keeps objects, each by itself, and compares an ETag: get, put if, remove if. */
export interface ObjectLink extends Link {
  /** Resolves to `undefined` where there is none. */
  get(key: string, signal: AbortSignal): Promise<Dated<StoredObject | undefined>>
  /** Puts it where the ETag is still the same, or, without one, where there is none. Resolves to the new ETag, otherwise to `undefined`. */
  put(key: string, object: NewObject, etag: string | undefined, signal: AbortSignal): Promise<string | undefined>
  /** Removes it where the ETag is still the same. Resolves to whether it was. */
  remove(key: string, etag: string, signal: AbortSignal): Promise<boolean>
}

/** The driver of a server that keeps objects: one at a time, whose time is over by a date of our own. */
export function objectDriver (link: ObjectLink): Driver {
  const clock = new ServerClock()

  async function get (key: string, signal: AbortSignal): Promise<StoredObject | undefined> {
    const asked = performance.now()
    const { result, date } = await link.get(key, signal)
    if (date !== undefined) clock.heard(date, asked)
    return result
  }

  async function read (key: string, lifetime: number, signal: AbortSignal): Promise<Row> {
    const object = await get(key, signal)
    if (object === undefined) return { text: undefined, version: undefined, marks: '' }
    if (isOver(object.expires)) return { text: undefined, version: object.etag, marks: object.marks }
    // What was written by another program stays as it is.
    if (lifetime === 0 || object.marks === '') return rowOf(object)
    const renewed = { ...object, expires: end(lifetime), lifetime }
    const etag = await link.put(key, renewed, object.etag, signal)
    // Somebody else has changed it, who has renewed it, too.
    return etag === undefined ? read(key, 0, signal) : rowOf({ ...renewed, etag })
  }

  async function write ({ key, row, text, marks, lifetime }: RowWrite, signal: AbortSignal): Promise<boolean> {
    if (row.expires !== undefined && isOver(row.expires)) return false
    // Only what is read tells the time.
    if (lifetime > 0 && !clock.isSet) await get(key, signal)
    if (text === undefined) return link.remove(key, row.version as string, signal)
    return await link.put(key, { text, marks, expires: end(lifetime), lifetime }, row.version, signal) !== undefined
  }

  const isOver = (expires: number): boolean => expires !== 0 && expires <= clock.now()
  const end = (lifetime: number): number => lifetime === 0 ? 0 : Math.ceil(clock.now() + lifetime)

  return {
    ...link,
    isAtomic: false,
    read: (keys, lifetime, { signal }) => Promise.all(keys.map((key) => read(key, lifetime, signal))),
    async readAndTellTime (keys, { signal }) {
      return { rows: await Promise.all(keys.map((key) => read(key, 0, signal))), now: clock.now() }
    },
    async timeLeft (key, { signal }) {
      const { expires = 0 } = await get(key, signal) ?? {}
      return expires === 0 ? Infinity : Math.max(expires - clock.now(), 0)
    },
    write: async (writes, { signal }) => (await Promise.all(writes.map((one) => write(one, signal)))).every(Boolean)
  }
}

function rowOf ({ text, etag, marks, expires }: StoredObject): Row {
  return { text, version: etag, marks, expires }
}
