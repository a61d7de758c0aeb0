import { parsePath } from './path.js'
import type { AnyKey, PersistedScope, StateScope, Undeclared } from './state-scope.js'
import { refuseAssignment } from './refuse-assignment.js'
import { TrackedScope } from './tracked-scope.js'

/** The keys that your bot keeps per conversation, and their types. Extend it by declaration merging. */
export interface ConversationState {}

/** The keys that your bot keeps per user, and their types. Extend it by declaration merging. */
export interface UserState {}

/** The keys that your bot passes along within one turn, and their types. Extend it by declaration merging. */
export interface TempState {}

/** Declared keys as the paths that lead to them. */
type PathState =
  { [Key in keyof ConversationState & string as `conversation.${Key}`]: ConversationState[Key] } &
  { [Key in keyof UserState & string as `user.${Key}`]: UserState[Key] } &
  { [Key in keyof TempState & string as Key | `temp.${Key}`]: TempState[Key] }

/**
 * What a turn knows: `request.state`, and what `fastify.botasState.run` hands to its function.
 *
 * A path is `scope.key` with `scope` one of `conversation`, `user` and `temp` in any case, or a bare `key`, which is in
 * `temp`. Where it has more than one dot, an unknown scope or an empty part, the path methods throw
 * `FST_BOTAS_STATE_INVALID_PATH`; and whatever the method of the scope throws that does the same.
 */
export interface TurnState {
  /** Shared by all turns and all participants of one conversation. Persisted. */
  readonly conversation: StateScope<ConversationState>
  /** Follows one user across conversations. Persisted. */
  readonly user: StateScope<UserState>
  /** This turn only, never stored; also there on a request that is no turn. */
  readonly temp: StateScope<TempState>

  /**
   * The value at a path, `conversation.key`, `user.key`, `temp.key` or a bare `key` in `temp`; `undefined` where there is
   * none. It is the value itself, as with `get` of a scope: changing an object in place changes the state.
   *
   * @throws FST_BOTAS_STATE_INVALID_PATH
   */
  getValue<Path extends keyof PathState & string>(path: Path): PathState[Path] | undefined
  getValue<Value = unknown, Path extends string = string>(path: Undeclared<PathState, Path>): Value | undefined

  /**
   * Sets the value at a path, `conversation.key`, `user.key`, `temp.key` or a bare `key` in `temp`; `undefined` deletes it.
   *
   * @throws FST_BOTAS_STATE_INVALID_PATH, and FST_BOTAS_STATE_NOT_SERIALIZABLE where JSON cannot hold the value
   */
  setValue<Path extends keyof PathState & string>(path: Path, value: PathState[Path] | undefined): void
  setValue<Path extends string>(path: Undeclared<PathState, Path>, value: unknown): void

  /**
   * Whether there is a value at a path, `conversation.key`, `user.key`, `temp.key` or a bare `key` in `temp`.
   *
   * @throws FST_BOTAS_STATE_INVALID_PATH
   */
  hasValue(path: AnyKey<PathState>): boolean

  /**
   * Deletes the value at a path, `conversation.key`, `user.key`, `temp.key` or a bare `key` in `temp`. Returns whether
   * there was one.
   *
   * @throws FST_BOTAS_STATE_INVALID_PATH
   */
  deleteValue(path: AnyKey<PathState>): boolean

  /**
   * Changes the value at a path, `conversation.key`, `user.key`, `temp.key` or a bare `key` in `temp`, in a way that
   * survives concurrent turns: as `update` of a scope does.
   *
   * @param change from the current value (`undefined` where there is none) to the new one. Must be pure and synchronous.
   * @returns the new value
   * @throws FST_BOTAS_STATE_INVALID_PATH, and FST_BOTAS_STATE_NOT_SERIALIZABLE where JSON cannot hold the new value
   */
  updateValue<Path extends keyof PathState & string>(
    path: Path, change: (current: PathState[Path] | undefined) => PathState[Path]): PathState[Path]
  updateValue<Value = unknown, Path extends string = string>(
    path: Undeclared<PathState, Path>, change: (current: Value | undefined) => Value): Value

  /**
   * Deletes all that is stored for the conversation, when the turn succeeds: its document, as `clear` does, and with it which activities
   * were handled, and replies that were kept. An activity that is delivered again after that is handled again.
   */
  deleteConversationState(): void
  /** Deletes all that is stored for the user, when the turn succeeds: as `deleteConversationState` does. */
  deleteUserState(): void
  /** Empties `temp`. */
  deleteTempState(): void

  /**
   * Marks the turn as failed: nothing of it is saved, and its changes throw FST_BOTAS_STATE_FAILED from now on. Cannot be
   * undone. The reply stays what the handler makes it. For the error callback of an SDK that catches what a bot throws.
   * Has no effect once the turn is over.
   *
   * @param error becomes the `cause` of FST_BOTAS_STATE_FAILED
   */
  fail(error?: unknown): void

  /**
   * Keeps the turn open until a promise settles: what changes until then is saved, when all is done. If it rejects, the
   * turn fails, and the rejection is logged, or passed on by `run`. The reply does not wait for it. For work that goes on
   * after the handler is done.
   *
   * @throws FST_BOTAS_STATE_TURN_ENDED once the turn is over
   */
  waitUntil(promise: PromiseLike<unknown>): void

  /**
   * Aborted when the work of the turn has become useless: a later turn has replaced it, it has lost its place to others, Fastify's
   * `handlerTimeout` has ended the request, or the server begins to close. Made when it is first read.
   */
  readonly signal: AbortSignal
}

/** The turn behind a `TurnState`. */
export type TurnControl = Pick<TurnState, 'fail' | 'waitUntil' | 'signal'>

/** The three scopes as the turn uses them. */
export class TurnScopes implements TurnState {
  readonly #conversation: TrackedScope<PersistedScope>
  readonly #user: TrackedScope<PersistedScope>
  readonly #temp = new TrackedScope<string>('temp')
  readonly #turn: TurnControl

  /** @param unavailable makes the error for a persisted scope, by its name, as long as nothing is loaded */
  constructor (turn: TurnControl, unavailable: (scope: PersistedScope) => Error) {
    this.#turn = turn
    this.#conversation = new TrackedScope<PersistedScope>('conversation', unavailable)
    this.#user = new TrackedScope<PersistedScope>('user', unavailable)
  }

  get conversation (): TrackedScope<PersistedScope> {
    return this.#conversation
  }

  get user (): TrackedScope<PersistedScope> {
    return this.#user
  }

  get temp (): TrackedScope {
    return this.#temp
  }

  get signal (): AbortSignal {
    return this.#turn.signal
  }

  fail (error?: unknown): void {
    this.#turn.fail(error)
  }

  waitUntil (promise: PromiseLike<unknown>): void {
    this.#turn.waitUntil(promise)
  }

  getValue<Value> (path: string): Value | undefined {
    const [scope, key] = this.#resolve(path)
    return scope.get<Value>(key)
  }

  setValue (path: string, value: unknown): void {
    const [scope, key] = this.#resolve(path)
    scope.set(key, value)
  }

  hasValue (path: string): boolean {
    const [scope, key] = this.#resolve(path)
    return scope.has(key)
  }

  deleteValue (path: string): boolean {
    const [scope, key] = this.#resolve(path)
    return scope.delete(key)
  }

  updateValue<Value> (path: string, change: (current: Value | undefined) => Value): Value {
    const [scope, key] = this.#resolve(path)
    return scope.update(key, change)
  }

  deleteConversationState (): void {
    this.conversation.forget()
  }

  deleteUserState (): void {
    this.user.forget()
  }

  deleteTempState (): void {
    this.temp.clear()
  }

  #resolve (path: string): [scope: StateScope, key: string] {
    const { scope, key } = parsePath(path)
    return [this[scope], key]
  }
}

refuseAssignment(TurnScopes, (name) =>
  `cannot be assigned to: call set(${JSON.stringify(name)}, value) on state.conversation, state.user or state.temp`)
