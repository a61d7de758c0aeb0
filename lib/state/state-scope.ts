import type { StateDocument } from '../document/document.js'

/** The scopes that are stored, each under a key of its own. */
export type PersistedScope = 'conversation' | 'user'

/** Accepts any key but one whose type the user declared: that key has an overload of its own. */
export type Undeclared<Shape, Key> = Key & (Key extends keyof Shape ? never : unknown)

/** Any key; an editor suggests the declared ones. */
export type AnyKey<Shape> = (keyof Shape & string) | (string & {})

/**
 * The values of one scope during one turn. Keys are any strings, values anything that JSON can hold.
 *
 * `Shape` is what the user declared by extending `ConversationState`, `UserState` or `TempState`.
 *
 * In `conversation` and `user` every member throws `FST_BOTAS_STATE_NOT_LOADED` before the state is loaded and
 * `FST_BOTAS_STATE_NOT_A_TURN` where the request does not say whose state it is. A change throws
 * `FST_BOTAS_STATE_TURN_ENDED` once the turn is over, and `FST_BOTAS_STATE_FAILED` once it has failed. A key that is no
 * string, and an assignment to a property of the scope, is an `FST_BOTAS_STATE_INVALID_PATH`.
 */
export interface StateScope<Shape extends object = object> {
  /**
   * Whether the values can be read now: false before the state is loaded, and where the request does not say whose it is.
   * Never throws. Always true in `temp`.
   */
  readonly isAvailable: boolean

  /**
   * The value of a key, `undefined` where there is none. It is the value itself, not a copy: changing an object or
   * array in place changes the state, with no `set` needed.
   */
  get<Key extends keyof Shape & string>(key: Key): Shape[Key] | undefined
  get<Value = unknown, Key extends string = string>(key: Undeclared<Shape, Key>): Value | undefined

  /**
   * Sets the value of a key; `undefined` deletes it. Dates are stored as ISO 8601 strings, Buffers and typed arrays
   * as Base64 strings.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE at once, naming scope and key, where JSON cannot hold the value
   */
  set<Key extends keyof Shape & string>(key: Key, value: Shape[Key] | undefined): void
  set<Key extends string>(key: Undeclared<Shape, Key>, value: unknown): void

  /**
   * Changes the value of a key in a way that survives concurrent turns: `change` is applied now, and once more to the
   * stored value at the save where another turn has changed that meanwhile.
   *
   * @example
   * const turn = conversation.update<number>('turnCount', (n) => (n ?? 0) + 1)
   *
   * @param change from the current value (`undefined` where there is none) to the new one. Must be pure and
   *   synchronous; returning `undefined` deletes the key.
   * @returns the new value. To change it further call `update` again: a change in place decides the whole value, as `set` does.
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE as `set` does
   */
  update<Key extends keyof Shape & string>(
    key: Key, change: (current: Shape[Key] | undefined) => Shape[Key]): Shape[Key]
  update<Value = unknown, Key extends string = string>(
    key: Undeclared<Shape, Key>, change: (current: Value | undefined) => Value): Value

  /** Whether the key has a value. What every object inherits does not count: `has('toString')` is false. */
  has(key: AnyKey<Shape>): boolean

  /** Deletes a key. Returns whether it had a value. */
  delete(key: AnyKey<Shape>): boolean

  /** Deletes every key, those included that other turns add before this one is saved. */
  clear(): void

  /** The keys that have a value: those that were loaded, then those that this turn added. */
  keys(): string[]

  /** A deep copy of all values as they would be stored. It may contain private data. */
  toJSON(): StateDocument
}
