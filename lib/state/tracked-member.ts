import { describeThrown } from '../document/describe-type.js'
import type { Document, StateDocument } from '../document/document.js'
import { encodePlain, encodeValue, setMember } from '../document/json-value.js'
import { type Snapshot, isAs, isEncoded, snapshotOf, snapshotOfStored, valueOf } from '../document/snapshot.js'

type Change = (current: unknown) => unknown

/** One member of a scope, as a turn uses it. Its value is the handler's, who may change it in place. */
export class TrackedMember {
  readonly name: string
  readonly #scope: string
  /** what the turn began with */
  readonly #loaded: Snapshot
  /** as the handler sees it; `undefined` where there is none */
  #value: unknown
  /** of `value`, when the handler got or gave it */
  #recorded: Snapshot
  /** what leads from `loaded` to `recorded`; `undefined` where a set, a delete or a change in place decided the value */
  #updates: Change[] | undefined = []
  /** what is to be stored, once the turn is over */
  #text: string | undefined

  /**
   * @param value as it was loaded, the handler's own
   * @param scope names the scope in errors
   */
  constructor (name: string, value: unknown, scope: string) {
    this.name = name
    this.#scope = scope
    this.#value = value
    this.#loaded = this.#recorded = snapshotOfStored(value)
  }

  get value (): unknown {
    return this.#value
  }

  /** @throws FST_BOTAS_STATE_NOT_SERIALIZABLE */
  set (value: unknown): void {
    this.#record(value, undefined)
  }

  /**
   * Changes the value, now and again where another turn has changed what is stored.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE, and what `change` throws; the value is then what it was
   */
  update<Value> (change: (current: Value | undefined) => Value): Value {
    const value = this.#value
    const isAsRecorded = isAs(value, this.#recorded)
    const before = isAsRecorded ? this.#recorded : this.#snapshotOf(value)
    const updates = isAsRecorded ? this.#updates : undefined
    const count = updates?.length ?? 0
    try {
      const next = change(value as Value | undefined)
      this.#record(next, updates)
      // What a change did to the same member while it ran is its own doing.
      updates?.splice(count, Infinity, change as Change)
      return next
    } catch (error) {
      updates?.splice(count)
      this.#recorded = before
      this.#updates = updates
      this.#value = restored(value, before)
      throw error
    }
  }

  /** A new value, as JSON would give it back. */
  copy (): unknown {
    return valueOf(isAs(this.#value, this.#loaded) ? this.#loaded : this.#snapshotOf(this.#value))
  }

  /**
   * Encodes the value if it is not what was loaded.
   *
   * @returns whether it is to be stored
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE
   */
  encodeIfChanged (loaded: Document | undefined): boolean {
    if (isAs(this.#value, this.#loaded)) return false
    const isAsRecorded = isAs(this.#value, this.#recorded)
    // A change in place after updates wins; the updates are not replayed.
    if (!isAsRecorded) this.#updates = undefined
    const isChecked = isAsRecorded && !isEncoded(this.#recorded)
    this.#text = isChecked ? encodePlain(this.#value) : encodeValue(this.#value, this.name, this.#scope)
    return isChecked || !this.#isTextOf(loaded)
  }

  /** Whether the encoded value equals the loaded one, as a Buffer equals its Base64 text. */
  #isTextOf (loaded: Document | undefined): boolean {
    if (this.#text === loaded?.textOf(this.name)) return true
    return isEncoded(this.#recorded) && this.#text !== undefined && isAs(JSON.parse(this.#text), this.#loaded)
  }

  /**
   * The text to store.
   *
   * @param current gives the value that is stored now, where another turn has changed it since this one was loaded
   */
  edited (current: (() => unknown) | undefined): string | undefined {
    if (current === undefined || this.#updates === undefined) return this.#text
    let value = current()
    try {
      for (const change of this.#updates) value = change(value)
    } catch (error) {
      // The engine's own messages quote values, and this error reaches the log.
      throw new Error(`an update of "${this.name}" in the ${this.#scope} state threw ${describeThrown(error)} when it was applied again, ` +
        'to what another turn stored: it must accept every value that the key can have')
    }
    return encodeValue(value, this.name, this.#scope)
  }

  #record (value: unknown, updates: Change[] | undefined): void {
    const recorded = this.#snapshotOf(value)
    // toJSON returned undefined: there is no value.
    const isNothing = isEncoded(recorded) && recorded.text === undefined
    this.#value = isNothing ? undefined : value
    this.#recorded = isNothing ? undefined : recorded
    this.#updates = updates
  }

  #snapshotOf (value: unknown): Snapshot {
    return snapshotOf(value, this.name, this.#scope)
  }
}

/** Puts back what a change did in place to the value that it was given, before it threw. */
function restored (value: unknown, before: Snapshot): unknown {
  if (isAs(value, before)) return value
  const copy = valueOf(before)
  if (!isPlainContainer(value)) return copy
  try {
    replaceMembers(value, copy as object)
    return value
  } catch {
    // A frozen object, of which something inside was changed.
    return copy
  }
}

/** In place: the handler may hold a reference. */
function replaceMembers (value: Record<string, unknown> | unknown[], members: object): void {
  if (Array.isArray(value)) value.length = 0
  for (const name of Object.keys(value)) Reflect.deleteProperty(value, name)
  for (const [name, member] of Object.entries(members)) setMember(value as StateDocument, name, member)
}

function isPlainContainer (value: unknown): value is Record<string, unknown> | unknown[] {
  return typeof value === 'object' && value !== null && (Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype)
}
