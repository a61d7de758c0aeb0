import { type ChangeDocument, type LoadedDocument, type StateDocument, setMember } from './document.js'
import { FST_BOTAS_STATE_INVALID_PATH, FST_BOTAS_STATE_TURN_ENDED } from './errors.js'
import { encodeValue } from './json-value.js'
import type { StateScope } from './state-scope.js'

type Change = (current: unknown) => unknown

/** What this turn did with one key. Values are remembered as text, since objects change in place; scalars do not. */
interface Entry {
  readonly key: string
  /** as the handler sees it; `undefined` where the key has no value */
  value: unknown
  /** the text of `value` when it was recorded */
  text: string | undefined
  /** the text that the turn began with */
  readonly before: string | undefined
  /** what leads from `before` to `text`; none where a set or delete decided the value */
  updates: readonly Change[]
}

const NO_UPDATES: readonly Change[] = []

/** The scope as the turn uses it: loaded once, sealed once, and asked what changed. */
export class TrackedScope<Name extends string = string> implements StateScope {
  readonly #name: Name
  #entries: Map<string, Entry> | undefined
  #stored: LoadedDocument | undefined
  #cleared = false
  #sealed = false
  #unavailable: ((scope: Name) => Error) | undefined

  /**
   * @param name of the scope, for errors
   * @param unavailable makes the error of every access until a document is loaded; without it the scope starts empty
   */
  constructor (name: Name, unavailable?: (scope: Name) => Error) {
    this.#name = name
    this.#unavailable = unavailable
  }

  /** Takes the stored document, of which it hands out copies only. */
  load (stored: LoadedDocument | undefined): void {
    this.#stored = stored
    this.#unavailable = undefined
  }

  /** There is no document to load, and every access throws. */
  loadFailed (error: Error): void {
    this.#unavailable = () => error
  }

  get #document (): StateDocument {
    return this.#stored?.document ?? NOTHING
  }

  /** From now on every change throws. */
  seal (): void {
    this.#sealed = true
  }

  /**
   * What the turn changed, encoded; `undefined` where it changed nothing.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE where an object was changed in place to what JSON cannot hold
   */
  changes (): ChangeDocument | undefined {
    let isChanged = this.#cleared
    for (const entry of this.#entries?.values() ?? []) {
      const text = this.#textOf(entry)
      if (text !== entry.text) {
        // An object that was changed in place after its updates is what the handler made it.
        entry.text = text
        entry.updates = NO_UPDATES
      }
      if (text !== entry.before) isChanged = true
    }
    if (isChanged) return (current) => this.#apply(current)
  }

  get<Value> (key: string): Value | undefined {
    return this.#read(key) as Value | undefined
  }

  set (key: string, value: unknown): void {
    this.#write(key, value)
  }

  update<Value> (key: string, change: (current: Value | undefined) => Value): Value {
    this.#assertKey(key)
    this.#assertWritable()
    const entry = this.#entryOf(key)
    const text = this.#textOf(entry)
    const { updates } = entry
    const replayable = text === entry.text && (updates.length > 0 || text === entry.before)
    const next = change(entry.value as Value | undefined)
    this.#write(key, next, replayable ? [...updates, change as Change] : NO_UPDATES)
    return next
  }

  has (key: string): boolean {
    this.#assertKey(key)
    this.#assertAvailable()
    const entry = this.#entries?.get(key)
    return entry === undefined ? Object.hasOwn(this.#document, key) : entry.value !== undefined
  }

  delete (key: string): boolean {
    const had = this.has(key)
    this.#write(key, undefined)
    return had
  }

  clear (): void {
    this.#assertWritable()
    this.#stored = undefined
    this.#entries = undefined
    this.#cleared = true
  }

  keys (): string[] {
    this.#assertAvailable()
    const keys = new Set(Object.keys(this.#document))
    for (const key of this.#entries?.keys() ?? []) keys.add(key)
    return [...keys].filter((key) => this.has(key))
  }

  toJSON (): StateDocument {
    const copy: StateDocument = {}
    for (const key of this.keys()) {
      const entry = this.#entries?.get(key)
      const value = entry === undefined ? this.#document[key] : entry.value
      setMember(copy, key, decode(this.#encode(key, value)))
    }
    return copy
  }

  #read (key: string): unknown {
    this.#assertKey(key)
    this.#assertAvailable()
    const entry = this.#entries?.get(key)
    if (entry !== undefined) return entry.value
    if (!Object.hasOwn(this.#document, key)) return undefined
    const value = this.#document[key]
    return isScalar(value) ? value : this.#entryOf(key).value
  }

  #write (key: string, value: unknown, updates: readonly Change[] = NO_UPDATES): void {
    this.#assertKey(key)
    this.#assertWritable()
    const text = this.#encode(key, value)
    const entry = this.#entryOf(key)
    // An object whose toJSON gives undefined is as good as no value.
    entry.value = text === undefined ? undefined : value
    entry.text = text
    entry.updates = updates
  }

  /** Begins to track a key. The handler gets a copy of an object, so that what was loaded stays as it was. */
  #entryOf (key: string): Entry {
    this.#entries ??= new Map()
    let entry = this.#entries.get(key)
    if (entry === undefined) {
      const value = Object.hasOwn(this.#document, key) ? this.#document[key] : undefined
      const text = this.#encode(key, value)
      entry = { key, value: isScalar(value) ? value : decode(text), text, before: text, updates: NO_UPDATES }
      this.#entries.set(key, entry)
    }
    return entry
  }

  #apply (current: StateDocument | undefined): StateDocument | undefined {
    const next: StateDocument = this.#cleared ? {} : { ...current }
    for (const entry of this.#entries?.values() ?? []) {
      if (entry.text === entry.before) continue
      const text = entry.updates.length === 0 ? entry.text : this.#replay(entry, next)
      if (text === undefined) delete next[entry.key]
      // A copy also of a string: a piece that was cut out of a long one would keep all of that in memory.
      else setMember(next, entry.key, decode(text))
    }
    return isEmpty(next) ? undefined : next
  }

  /** What the updates of a key make of its stored value, which another turn may have moved. */
  #replay ({ key, before, text, updates }: Entry, document: StateDocument): string | undefined {
    const stored = Object.hasOwn(document, key) ? this.#encode(key, document[key]) : undefined
    if (stored === before) return text
    const value = updates.reduce((value, change) => change(value), decode(stored))
    return this.#encode(key, value)
  }

  /** What a key holds by now. */
  #textOf ({ key, value, text }: Entry): string | undefined {
    return isScalar(value) ? text : this.#encode(key, value)
  }

  #encode (key: string, value: unknown): string | undefined {
    return encodeValue(value, key, this.#name)
  }

  #assertKey (key: unknown): void {
    if (typeof key !== 'string') throw new FST_BOTAS_STATE_INVALID_PATH(String(key), 'is no string')
  }

  #assertAvailable (): void {
    if (this.#unavailable !== undefined) throw this.#unavailable(this.#name)
  }

  #assertWritable (): void {
    this.#assertAvailable()
    if (this.#sealed) throw new FST_BOTAS_STATE_TURN_ENDED(this.#name)
  }
}

const NOTHING: StateDocument = Object.freeze({})

function isEmpty (document: StateDocument): boolean {
  for (const key in document) if (Object.hasOwn(document, key)) return false
  return true
}

/** Whether a JSON value cannot be changed in place. */
function isScalar (value: unknown): boolean {
  return typeof value !== 'object' || value === null
}

function decode (text: string | undefined): unknown {
  return text === undefined ? undefined : JSON.parse(text)
}
