import type { Document, Edit, EditDocument, StateDocument } from '../document/document.js'
import { describeType } from '../document/describe-type.js'
import { setMember } from '../document/json-value.js'
import { FST_BOTAS_STATE_INVALID_PATH } from '../errors.js'
import { refuseAssignment } from './refuse-assignment.js'
import type { StateScope } from './state-scope.js'
import { TrackedMember } from './tracked-member.js'

/** The scope as the turn uses it: loaded once, sealed once, and asked what changed. */
export class TrackedScope<Name extends string = string> implements StateScope {
  readonly #name: Name
  #members: Map<string, TrackedMember> | undefined
  #loaded: Document | undefined
  #refused: (error: unknown) => void = () => {}
  #cleared = false
  #forgotten = false
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
   * @param refused is told where the document turns out to be none that can be used when it is first touched
   */
  load (document: Document | undefined, refused: (error: unknown) => void): void {
    this.#loaded = document
    this.#refused = refused
    this.#unavailable = undefined
  }

  /** There is no document to load, and every access throws. */
  loadFailed (refusal: (scope: Name) => Error): void {
    this.#unavailable = refusal
  }

  get isAvailable (): boolean {
    return this.#unavailable === undefined
  }

  /** Whether nothing is to be left of what was stored, beside the document either. */
  get isForgotten (): boolean {
    return this.#forgotten
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
    const changed: TrackedMember[] = []
    if (this.#members !== undefined) {
      for (const member of this.#members.values()) if (member.encodeIfChanged(this.#loaded)) changed.push(member)
    }
    if (changed.length > 0 || this.#cleared) return (current) => this.#edit(current, changed)
  }

  get<Value> (name: string): Value | undefined {
    this.#assertName(name)
    this.#assertAvailable()
    return this.#memberOf(name).value as Value | undefined
  }

  set (name: string, value: unknown): void {
    this.#assertName(name)
    this.#assertWritable()
    this.#memberOf(name).set(value)
  }

  update<Value> (name: string, change: (current: Value | undefined) => Value): Value {
    this.#assertName(name)
    this.#assertWritable()
    return this.#memberOf(name).update(change)
  }

  has (name: string): boolean {
    this.#assertName(name)
    this.#assertAvailable()
    const member = this.#members?.get(name)
    return member === undefined ? this.#touch((document) => document.has(name)) === true : member.value !== undefined
  }

  delete (name: string): boolean {
    const had = this.has(name)
    this.set(name, undefined)
    return had
  }

  clear (): void {
    this.#assertWritable()
    this.#loaded = undefined
    this.#members = undefined
    this.#cleared = true
  }

  /** Clears the scope, and leaves nothing beside it. */
  forget (): void {
    this.clear()
    this.#forgotten = true
  }

  keys (): string[] {
    this.#assertAvailable()
    const names = new Set(this.#touch((document) => document.names()))
    for (const name of this.#members?.keys() ?? []) names.add(name)
    return [...names].filter((name) => this.has(name))
  }

  toJSON (): StateDocument {
    const copy: StateDocument = {}
    for (const name of this.keys()) {
      const member = this.#members?.get(name)
      setMember(copy, name, member === undefined ? this.#touch((document) => document.valueOf(name)) : member.copy())
    }
    return copy
  }

  /** Begins to track a member. The handler gets a value of its own. */
  #memberOf (name: string): TrackedMember {
    this.#members ??= new Map()
    let member = this.#members.get(name)
    if (member === undefined) {
      member = new TrackedMember(name, this.#touch((document) => document.valueOf(name)), this.#name)
      this.#members.set(name, member)
    }
    return member
  }

  /** What is asked of the document that was loaded. If it cannot be used, the turn fails, whatever the handler makes of it. */
  #touch<Result> (ask: (document: Document) => Result): Result | undefined {
    if (this.#loaded === undefined) return undefined
    try {
      return ask(this.#loaded)
    } catch (error) {
      this.#refused(error)
      throw error
    }
  }

  #edit (current: Document | undefined, changed: TrackedMember[]): Edit {
    const stored = this.#cleared ? undefined : current
    const members = new Map<string, string | undefined>()
    for (const member of changed) {
      const { name } = member
      const isAsLoaded = stored === this.#loaded || stored?.textOf(name) === this.#loaded?.textOf(name)
      members.set(name, member.edited(isAsLoaded ? undefined : () => stored?.valueOf(name)))
    }
    return { clears: this.#cleared, members }
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

refuseAssignment(TrackedScope, (name) =>
  `cannot be assigned to: call set(${JSON.stringify(name)}, value) on the scope instead`)
