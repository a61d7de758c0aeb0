import type { Document, Edit, EditDocument, StateDocument } from '../document/document.js'
import { describeType } from '../document/describe-type.js'
import { encodePlain, encodeValue, setMember } from '../document/json-value.js'
import { type Snapshot, isAs, isEncoded, snapshotOf, snapshotOfStored, valueOf } from '../document/snapshot.js'
import { FST_BOTAS_STATE_INVALID_PATH } from '../errors.js'
import { refuseAssignment } from './refuse-assignment.js'
import type { StateScope } from './state-scope.js'

type Change = (current: unknown) => unknown

const NO_UPDATES: readonly Change[] = []

/** What this turn does with one member. Its value is the handler's, who may change it in place. */
interface Entry {
  readonly name: string
  /** what the turn began with */
  readonly loaded: Snapshot
  /** as the handler sees it; `undefined` where there is none */
  value: unknown
  /** of `value`, when the handler got or gave it */
  recorded: Snapshot
  /** what leads from `loaded` to `recorded`; `undefined` where a set, a delete or a change in place decided the value */
  updates: readonly Change[] | undefined
  /** what is to be stored, once the turn is over */
  text: string | undefined
}

/** The scope as the turn uses it: loaded once, sealed once, and asked what changed. */
export class TrackedScope<Name extends string = string> implements StateScope {
  readonly #name: Name
  #entries: Map<string, Entry> | undefined
  #loaded: Document | undefined
  #corrupted: (error: unknown) => void = () => {}
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

  /**
   * Takes what is stored.
   *
   * @param corrupted is told where the document turns out to be corrupt when it is first touched
   */
  load (document: Document | undefined, corrupted: (error: unknown) => void): void {
    this.#loaded = document
    this.#corrupted = corrupted
    this.#unavailable = undefined
  }

  /** There is no document to load, and every access throws. */
  loadFailed (error: Error): void {
    this.#unavailable = () => error
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
  changes (): EditDocument | undefined {
    const changed: Entry[] = []
    if (this.#entries !== undefined) {
      for (const entry of this.#entries.values()) if (this.#isChanged(entry)) changed.push(entry)
    }
    if (changed.length > 0 || this.#cleared) return (current) => this.#edit(current, changed)
  }

  get<Value> (name: string): Value | undefined {
    this.#assertName(name)
    this.#assertAvailable()
    return this.#entryOf(name).value as Value | undefined
  }

  set (name: string, value: unknown): void {
    this.#assertName(name)
    this.#assertWritable()
    this.#record(this.#entryOf(name), value)
  }

  update<Value> (name: string, change: (current: Value | undefined) => Value): Value {
    this.#assertName(name)
    this.#assertWritable()
    const entry = this.#entryOf(name)
    const isAsRecorded = isAs(entry.value, entry.recorded)
    const before = isAsRecorded ? entry.recorded : this.#snapshotOf(name, entry.value)
    const updates = isAsRecorded ? entry.updates : undefined
    try {
      const next = change(entry.value as Value | undefined)
      this.#record(entry, next, updates && [...updates, change as Change])
      return next
    } catch (error) {
      restore(entry, before)
      throw error
    }
  }

  has (name: string): boolean {
    this.#assertName(name)
    this.#assertAvailable()
    const entry = this.#entries?.get(name)
    return entry === undefined ? this.#touch((document) => document.has(name)) === true : entry.value !== undefined
  }

  delete (name: string): boolean {
    const had = this.has(name)
    this.set(name, undefined)
    return had
  }

  clear (): void {
    this.#assertWritable()
    this.#loaded = undefined
    this.#entries = undefined
    this.#cleared = true
  }

  keys (): string[] {
    this.#assertAvailable()
    const names = new Set(this.#touch((document) => document.names()))
    for (const name of this.#entries?.keys() ?? []) names.add(name)
    return [...names].filter((name) => this.has(name))
  }

  toJSON (): StateDocument {
    const copy: StateDocument = {}
    for (const name of this.keys()) {
      const entry = this.#entries?.get(name)
      const value = entry === undefined
        ? this.#touch((document) => document.valueOf(name))
        : valueOf(isAs(entry.value, entry.loaded) ? entry.loaded : this.#snapshotOf(name, entry.value))
      setMember(copy, name, value)
    }
    return copy
  }

  #record (entry: Entry, value: unknown, updates?: readonly Change[]): void {
    const recorded = this.#snapshotOf(entry.name, value)
    // An object whose toJSON gives undefined is as good as no value.
    entry.value = isEncoded(recorded) && recorded.text === undefined ? undefined : value
    entry.recorded = recorded
    entry.updates = updates
  }

  /** Begins to track a member. The handler gets a value of its own. */
  #entryOf (name: string): Entry {
    this.#entries ??= new Map()
    let entry = this.#entries.get(name)
    if (entry === undefined) {
      const value = this.#touch((document) => document.valueOf(name))
      const loaded = snapshotOfStored(value)
      entry = { name, loaded, value, recorded: loaded, updates: NO_UPDATES, text: undefined }
      this.#entries.set(name, entry)
    }
    return entry
  }

  /** What is asked of the document that was loaded. If it is corrupt, the turn fails, whatever the handler makes of it. */
  #touch<Result> (ask: (document: Document) => Result): Result | undefined {
    if (this.#loaded === undefined) return undefined
    try {
      return ask(this.#loaded)
    } catch (error) {
      this.#corrupted(error)
      throw error
    }
  }

  /** Whether a member is not what it was. Encodes it then. */
  #isChanged (entry: Entry): boolean {
    const { name, value, recorded, loaded } = entry
    if (isAs(value, loaded)) return false
    const isAsRecorded = isAs(value, recorded)
    // An object that was changed in place after its updates is what the handler made it.
    if (!isAsRecorded) entry.updates = undefined
    if (isAsRecorded && !isEncoded(recorded)) {
      // Nothing in a listed value has to be looked at once more.
      entry.text = encodePlain(value)
      return true
    }
    entry.text = encodeValue(value, name, this.#name)
    return entry.text !== this.#loaded?.textOf(name) && !(isEncoded(recorded) && entry.text !== undefined && isAs(JSON.parse(entry.text), loaded))
  }

  #edit (current: Document | undefined, changed: Entry[]): Edit {
    const stored = this.#cleared ? undefined : current
    const members = new Map<string, string | undefined>()
    for (const member of changed) {
      const { name, text, updates } = member
      members.set(name, updates === undefined ? text : this.#replay(member, updates, stored))
    }
    return { clears: this.#cleared, members }
  }

  /** What the updates of a member make of its stored value, which another turn may have changed. */
  #replay ({ name, text }: Entry, updates: readonly Change[], stored: Document | undefined): string | undefined {
    if (stored === this.#loaded || stored?.textOf(name) === this.#loaded?.textOf(name)) return text
    let value = stored?.valueOf(name)
    try {
      for (const change of updates) value = change(value)
    } catch (error) {
      // The engine's own messages quote values, and this error reaches the log.
      throw new Error(`an update of "${name}" in the ${this.#name} state threw ${nameOf(error)} when it was applied again, ` +
        'to what another turn stored: it must accept every value that the key can have')
    }
    return encodeValue(value, name, this.#name)
  }

  #snapshotOf (name: string, value: unknown): Snapshot {
    return snapshotOf(value, name, this.#name)
  }

  #assertName (name: unknown): void {
    if (typeof name !== 'string') throw new FST_BOTAS_STATE_INVALID_PATH(`a key must be a string, got ${describeType(name)}`)
  }

  #assertAvailable (): void {
    if (this.#unavailable !== undefined) throw this.#unavailable(this.#name)
  }

  #assertWritable (): void {
    this.#assertAvailable()
    if (this.#refusal !== undefined) throw this.#refusal(this.#name)
  }
}

/** Puts back what a change did in place to the value that it was given, before it threw. */
function restore (entry: Entry, before: Snapshot): void {
  const { value } = entry
  if (isAs(value, before)) return
  const restored = valueOf(before)
  if (isPlainContainer(value)) replaceMembers(value, restored as object)
  else entry.value = restored
}

/** The handler may hold a reference, which stays good. */
function replaceMembers (value: Record<string, unknown> | unknown[], members: object): void {
  if (Array.isArray(value)) value.length = 0
  for (const name of Object.keys(value)) Reflect.deleteProperty(value, name)
  for (const [name, member] of Object.entries(members)) setMember(value as StateDocument, name, member)
}

function isPlainContainer (value: unknown): value is Record<string, unknown> | unknown[] {
  return typeof value === 'object' && value !== null && (Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype)
}

/** The name of an error's kind, which says nothing of values. */
function nameOf (error: unknown): string {
  return error instanceof Error ? `a ${error.name}` : describeType(error)
}

refuseAssignment(TrackedScope, (name) =>
  `cannot be assigned to: call set(${JSON.stringify(name)}, value) on the scope instead`)
