import { type ChangeDocument, type LoadedDocument, type StateDocument, setMember } from '../document/document.js'
import { FST_BOTAS_STATE_INVALID_PATH } from '../errors.js'
import { describeType } from '../document/describe-type.js'
import { encodeValue } from '../document/json-value.js'
import { refuseAssignment } from './refuse-assignment.js'
import type { StateScope } from './state-scope.js'
import { decodeStored, encodeStored, isLossless } from '../document/stored-value.js'

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
  /** what leads from `before` to `text`; `undefined` where a set, a delete or a change in place decided the value */
  updates: readonly Change[] | undefined
}

/** The scope as the turn uses it: loaded once, sealed once, and asked what changed. */
export class TrackedScope<Name extends string = string> implements StateScope {
  readonly #name: Name
  #entries: Map<string, Entry> | undefined
  #stored: LoadedDocument | undefined
  #cleared = false
  /** makes the error of every change, once the scope is sealed */
  #refusal: ((scope: Name) => Error) | undefined
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

  get isAvailable (): boolean {
    return this.#unavailable === undefined
  }

  /** From now on every change throws. The first refusal stays. */
  seal (refusal: (scope: Name) => Error): void {
    this.#refusal ??= refusal
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
        entry.updates = undefined
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
    const updates = text === entry.text ? entry.updates : undefined
    try {
      const next = change(entry.value as Value | undefined)
      this.#write(key, next, updates && [...updates, change as Change])
      return next
    } catch (error) {
      undoChange(entry, text)
      throw error
    }
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
      const text = entry === undefined ? encodeStored(this.#document[key]) : this.#textOf(entry)
      setMember(copy, key, decodeStored(text))
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

  #write (key: string, value: unknown, updates?: readonly Change[]): void {
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
      const text = encodeStored(value)
      entry = { key, value: isScalar(value) ? value : decodeStored(text), text, before: text, updates: [] }
      this.#entries.set(key, entry)
    }
    return entry
  }

  #apply (current: StateDocument | undefined): StateDocument | undefined {
    const next: StateDocument = this.#cleared ? {} : { ...current }
    for (const entry of this.#entries?.values() ?? []) {
      if (entry.text === entry.before) continue
      const text = entry.updates === undefined ? entry.text : this.#replay(entry, entry.updates, next)
      if (text === undefined) delete next[entry.key]
      // A copy also of a string: a piece that was cut out of a long one would keep all of that in memory.
      else setMember(next, entry.key, JSON.parse(text))
    }
    return isEmpty(next) ? undefined : next
  }

  /** What the updates of a key make of its stored value, which another turn may have changed. */
  #replay ({ key, before, text }: Entry, updates: readonly Change[], document: StateDocument): string | undefined {
    const stored = Object.hasOwn(document, key) ? encodeStored(document[key]) : undefined
    if (stored === before) return text
    let value = decodeStored(stored)
    try {
      for (const change of updates) value = change(value)
    } catch (error) {
      // The engine's own messages quote values, and this error reaches the log.
      throw new Error(`an update of "${key}" in the ${this.#name} state threw ${nameOf(error)} when it was applied again, ` +
        'to what another turn stored: it must accept every value that the key can have')
    }
    return this.#encode(key, value)
  }

  /** What a key holds by now. */
  #textOf ({ key, value, text, before }: Entry): string | undefined {
    if (isScalar(value)) return text
    // What was stored may be left as it is also where this turn could not store it.
    return !isLossless(before) && encodeStored(value) === before ? before : this.#encode(key, value)
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
    if (this.#refusal !== undefined) throw this.#refusal(this.#name)
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

/** Puts back what a change did in place to the value that it was given, before it threw. */
function undoChange (entry: Entry, text: string | undefined): void {
  const { value } = entry
  if (isScalar(value) || encodeStored(value) === text) return
  const before = decodeStored(text)
  if (isPlainContainer(value)) replaceMembers(value, before as object)
  else entry.value = before
}

/** The handler may hold a reference, which stays good. */
function replaceMembers (value: Record<string, unknown> | unknown[], members: object): void {
  if (Array.isArray(value)) value.length = 0
  for (const name of Object.keys(value)) Reflect.deleteProperty(value, name)
  for (const [name, member] of Object.entries(members)) setMember(value as StateDocument, name, member)
}

function isPlainContainer (value: unknown): value is Record<string, unknown> | unknown[] {
  return Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype
}

/** The name of an error's kind, which says nothing of values. */
function nameOf (error: unknown): string {
  return error instanceof Error ? `a ${error.name}` : describeType(error)
}

refuseAssignment(TrackedScope, (name) =>
  `cannot be assigned to: call set(${JSON.stringify(name)}, value) on the scope instead`)
