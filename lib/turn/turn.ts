import type { Document } from '../document/document.js'
import { Admission, type AdmissionContext, type AdmittedTurn } from './admission.js'
import type { AnswerableTurn, AnsweredTurns } from './answered-turns.js'
import {
  FST_BOTAS_STATE_BUSY, FST_BOTAS_STATE_FAILED, FST_BOTAS_STATE_LOAD_FAILED, FST_BOTAS_STATE_NOT_A_TURN, FST_BOTAS_STATE_NOT_LOADED,
  FST_BOTAS_STATE_REPLACED, FST_BOTAS_STATE_TURN_ENDED
} from '../errors.js'
import { type DocumentEdit, save } from './save.js'
import type { TurnIdentity } from './identity.js'
import { KeptOpen } from './kept-open.js'
import type { KeyedQueue } from '../waiting/keyed-queue.js'
import { withDeadline } from '../waiting/deadline.js'
import { abortError } from './abort-error.js'
import { isAboutDocument } from './about-document.js'
import type { OpenTurns } from './open-turns.js'
import { SCOPES, type ScopeRules, TurnDocuments } from './turn-documents.js'
import type { Operation, Operations } from './telemetry.js'
import { type Kept, REPLACED_REPLY, keptIn } from './kept.js'
import type { Terms } from './overlap/terms.js'
import type { DocumentStore } from '../storage/document-store.js'
import type { PersistedScope } from '../state/state-scope.js'
import { type TurnControl, TurnScopes } from '../state/turn-state.js'
import type { TurnWatch, WatchTurn } from './turn-watch.js'

/** What the turns of one server share. */
export interface TurnContext extends AdmissionContext {
  store: DocumentStore
  rules: ScopeRules | undefined
  /** the saves of this storage that are queued or running */
  saves: KeyedQueue
  /** the turns of this storage that are open though their client may have the reply */
  answered: AnsweredTurns
  /** how long a load waits for such a turn, in milliseconds: then it goes on beside it */
  patience: number
  operations: Operations
  /** what `close` has to wait for */
  open: OpenTurns
  /** left out while nobody watches */
  watchTurn: WatchTurn | undefined
}

/** What a turn depends on. */
export interface TurnOwner {
  /** Makes the error for a persisted scope that is not, or not yet, there. */
  unavailable(scope: PersistedScope): Error
  /** A promise that kept the turn open was rejected. */
  rejected(error: unknown): void
  /** The turn was merged with another one of its conversation, which should not have been at work. */
  overlapped(): void
  /** Whether a client may have the whole reply. Left out where there is no client, and no next message of it. */
  isAnswered?(): boolean
  /** Whether nothing but the save of the turn is to come. */
  isDecided?(): boolean
}

/** One turn: identified and loaded, succeeded or failed, saved. */
export class Turn implements TurnControl, AnswerableTurn, AdmittedTurn {
  readonly state: TurnScopes
  readonly #context: TurnContext
  readonly #owner: TurnOwner
  readonly #documents = new TurnDocuments()
  #admission: Admission | undefined
  /** what the next deliveries of its activity get */
  #kept: Kept | undefined = {}
  #isOverlapped = false
  #replacement: Error | undefined
  #failure: { cause: unknown } | undefined
  #unusable: unknown
  #isBegun = false
  #isLoading = false
  #isEnded = false
  #over: Promise<void> | undefined
  /** who waits for it to be over and saved */
  #whenOver: Set<() => void> | undefined
  #keptOpen: KeptOpen | undefined
  #controller: AbortController | undefined
  #watch: TurnWatch | undefined

  constructor (context: TurnContext, owner: TurnOwner) {
    this.#context = context
    this.#owner = owner
    this.state = new TurnScopes(this, (scope) => this.#isLoading ? new FST_BOTAS_STATE_NOT_LOADED(scope) : owner.unavailable(scope))
  }

  /** The keys of the documents that the turn is loaded with. */
  get keys (): string[] {
    return this.#documents.keys
  }

  get failed (): boolean {
    return this.#failure !== undefined
  }

  /** What a document that cannot be used made a scope throw: a handler may swallow it, but the turn has failed. */
  get unusable (): unknown {
    return this.#unusable
  }

  /** What the turn waits for and holds; nothing where it runs beside others. */
  get admission (): Admission | undefined {
    return this.#admission
  }

  /** Whether something is stored at its end: also of a turn that failed because a later one replaced it, whose activity is done. */
  get isToSave (): boolean {
    return !this.failed || (this.#replacement !== undefined && this.#admission?.isOnce === true)
  }

  /** The error of all changes since a later turn has replaced this one. */
  get replacement (): Error | undefined {
    return this.#replacement
  }

  /** Nobody has to wait for one that was replaced. */
  get isAnswered (): boolean {
    return this.#replacement === undefined && this.#isReplyOut
  }

  get #isReplyOut (): boolean {
    return this.#owner.isAnswered?.() === true
  }

  /** `run` has no client, and so no next message of it to keep in order. */
  get #hasClient (): boolean {
    return this.#owner.isAnswered !== undefined
  }

  get isKeptOpen (): boolean {
    return this.#keptOpen?.isOpen === true
  }

  get signal (): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#isBegun && !this.#isEnded) this.#context.open.abortOnClose(this.#controller)
    }
    return this.#controller.signal
  }

  /** The turn has begun: closing the server waits for its end. */
  begin (): void {
    const { open } = this.#context
    this.#isBegun = true
    open.begun()
    this.#watch = this.#context.watchTurn?.(this.#hasClient)
    if (this.#controller !== undefined) open.abortOnClose(this.#controller)
  }

  /**
   * Loads the persisted scopes that the identity has ids for, after every save of the same keys that is running:
   * a client that got a reply finds what its turn wrote.
   *
   * @param identity with ids that were checked
   * @param terms on which it is admitted
   * @param outer the turn inside which it begins, and whose place it shares
   * @returns the reply that was kept where the activity was handled before; the turn has nothing to do then
   * @throws FST_BOTAS_STATE_LOAD_FAILED, FST_BOTAS_STATE_BUSY, FST_BOTAS_STATE_REPLACED, or FST_BOTAS_STATE_CANNOT_DECRYPT for a kept reply
   */
  async load (identity: TurnIdentity, terms: Terms, outer?: Admission): Promise<Kept | undefined> {
    const { answered, operations, rules } = this.#context
    this.#documents.identify(identity, this.state, rules)
    const { keys } = this
    const [first] = keys
    if (first === undefined) return
    this.#watch?.identified(identity)
    this.#isLoading = true
    const mustWait = this.#hasClient && !this.#isEnded && answered.has(keys)
    if (this.#hasClient && !this.#isEnded) answered.add(keys, this)
    // What is over before it begins holds nothing.
    if (!this.#isEnded && (terms.strategy !== 'parallel' || terms.activity !== undefined)) {
      return this.#enter(new Admission(this.#context, first, terms, this, outer))
    }
    if (mustWait) {
      this.waits()
      await answered.over(keys, this.#context.patience)
    }
    const operation = operations.begin('load', keys, this.#watch)
    try {
      this.#useDocuments(await operation.inTime(this.#loadDocuments(operation)))
      operation.succeeded()
      this.#watch?.enters('handler')
    } catch (cause) {
      throw this.#loadFailed(cause, operation)
    } finally {
      this.#isLoading = false
    }
  }

  async #enter (admission: Admission): Promise<Kept | undefined> {
    const { operations } = this.#context
    const { keys } = this
    this.#admission = admission
    let operation: Operation | undefined
    try {
      const { reply, documents } = await admission.enter({
        keys,
        ready: () => this.#saved(),
        operation: () => {
          operation ??= operations.begin('load', keys, this.#watch)
          operation.asks()
          return operation
        }
      })
      if (reply !== undefined) return await this.#useReply(reply, operation as Operation)
      this.#useDocuments(documents)
      operation?.succeeded()
      this.#watch?.enters('handler')
    } catch (cause) {
      if (!isRefusal(cause)) throw this.#loadFailed(cause, operation)
      operation?.withdrawn()
      this.#refuseAccess(() => cause)
      throw cause
    } finally {
      this.#isLoading = false
    }
  }

  /** The activity was handled before: hooks may read the state, but what they change would not be saved. */
  async #useReply (reply: string, operation: Operation): Promise<Kept> {
    const kept = keptIn(reply, this.keys)
    this.#useDocuments(await operation.inTime(this.#loadDocuments(operation)))
    this.#seal((scope) => new FST_BOTAS_STATE_NOT_A_TURN(scope, 'this delivery of the activity got the reply of an earlier one'))
    this.#documents.leave()
    this.#admission = undefined
    this.#context.overlaps.replayedTurns++
    this.#watch?.replayed()
    operation.succeeded()
    return kept
  }

  /** Resolves when what was answered, or is being saved, of these documents is saved. */
  async #saved (): Promise<void> {
    const { answered, patience, saves } = this.#context
    if (this.#hasClient && answered.has(this.keys)) await answered.over(this.keys, patience)
    if (saves.isBusy(this.keys)) await saves.settled(this.keys)
  }

  #refuseAccess (refusal: (scope: PersistedScope) => Error): void {
    for (const name of SCOPES) this.state[name].loadFailed(refusal)
  }

  waits (): void {
    this.#watch?.enters('waiting')
  }

  /** A later turn of the conversation has taken the place of this one. */
  replaced (error: Error): void {
    if (this.#isEnded || this.#replacement !== undefined) return
    this.abort(error)
    // A failed turn is not saved either, and its activity may be handled again.
    if (this.failed) return
    this.#replacement = error
    this.#context.overlaps.replacedTurns++
    this.#watch?.replaced(error)
    this.#seal(() => error)
  }

  overlapped (): void {
    if (this.#isOverlapped) return
    this.abort(abortError('the turn has lost its place in the conversation'))
    this.#isOverlapped = true
    this.#context.overlaps.leasesLost++
    this.#watch?.overlapped()
    this.#owner.overlapped()
  }

  get isDecided (): boolean {
    return this.#isEnded || this.#owner.isDecided?.() === true
  }

  /** Keeps what the next deliveries of the activity get. Where that is nothing, the next one has its own turn. */
  keep (kept: Kept | undefined): void {
    this.#kept = kept
  }

  /** Marks the turn as failed: nothing of it will be stored, and its persisted scopes take no more changes. */
  fail (cause?: unknown): void {
    if (this.#isEnded || this.#failure !== undefined) return
    this.#failure = { cause }
    this.#watch?.failed(cause)
    this.#seal((scope) => new FST_BOTAS_STATE_FAILED(scope, { cause }))
  }

  waitUntil (promise: PromiseLike<unknown>): void {
    if (this.#isEnded && !this.failed) throw new FST_BOTAS_STATE_TURN_ENDED('conversation and user')
    this.#keptOpen ??= new KeptOpen()
    this.#keptOpen.add(promise, (error) => {
      this.fail(error)
      this.#owner.rejected(error)
    })
  }

  /** Calls back when all promises that keep the turn open have settled. */
  whenIdle (callback: () => void): void {
    this.#keptOpen?.whenSettled(callback)
  }

  /** The work of the turn has become useless. */
  abort (reason: unknown): void {
    this.#controller ??= new AbortController()
    this.#controller.abort(reason)
  }

  whenOver (callback: () => void): void {
    (this.#whenOver ??= new Set()).add(callback)
  }

  notWhenOver (callback: () => void): void {
    this.#whenOver?.delete(callback)
  }

  /**
   * The turn is over. Saves what it changed unless it failed. A second call waits for the first. `temp` stays open,
   * for hooks that are still to run.
   *
   * @returns nothing where all is done
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE where an object was changed in place to what JSON cannot hold
   * @throws FST_BOTAS_STATE_SAVE_FAILED, or the error of a document that cannot be used, see `isAboutDocument`
   */
  end (): Promise<void> | undefined {
    if (!this.#isEnded) {
      this.#isEnded = true
      this.#seal((scope) => new FST_BOTAS_STATE_TURN_ENDED(scope))
      const saving = this.isToSave ? this.#save() : undefined
      this.#over = saving === undefined ? this.#left() : this.#leftAfter(saving)
      const over = (): void => this.#onOver()
      if (this.#over === undefined) over()
      else this.#over.then(over, over)
    }
    return this.#over
  }

  #leftAfter (saving: Promise<void>): Promise<void> {
    return this.#admission === undefined ? saving : saving.finally(() => this.#left())
  }

  /** Whoever is answered finds the place free, wherever the next message arrives: unless the storage does not answer. */
  #left (): Promise<void> | undefined {
    const left = this.#admission?.leave()
    return left && withDeadline(left, this.#context.patience).catch(() => {})
  }

  #seal (refusal: (scope: string) => Error): void {
    this.state.conversation.seal(refusal)
    this.state.user.seal(refusal)
  }

  #onOver (): void {
    const { open, answered } = this.#context
    if (this.#hasClient) answered.remove(this.keys, this)
    if (this.#controller !== undefined) open.forget(this.#controller)
    this.#admission?.leave()
    for (const callback of this.#whenOver ?? []) callback()
    this.#watch?.over(this.#documents.made())
    open.over()
  }

  /** @returns nothing where there is nothing to do */
  #save (): Promise<void> | undefined {
    const { operations } = this.#context
    let edits: DocumentEdit[]
    try {
      edits = this.#replacement === undefined ? this.#documents.edits() : []
    } catch (error) {
      operations.begin('save', this.keys, this.#watch).failed(error)
      return Promise.reject(error)
    }
    const kept = this.#replacement === undefined ? this.#kept : keptOfReplaced(this.#kept)
    if (edits.length === 0 && (kept === undefined || this.#admission?.isToRemember !== true)) return
    const keys = edits.length === this.keys.length ? this.keys : edits.map(({ key }) => key)
    // An activity is remembered beside the first document.
    if (keys.length === 0) keys.push(this.keys[0] as string)
    return this.#saveEdits(this.#watched(edits), kept, operations.begin('save', keys, this.#watch))
  }

  #watched (edits: DocumentEdit[]): DocumentEdit[] {
    const watch = this.#watch
    if (watch === undefined) return edits
    return edits.map((change) => ({
      ...change,
      edit: (stored) => {
        const edit = change.edit(stored)
        watch.edited(change.key, stored, edit)
        return edit
      }
    }))
  }

  async #saveEdits (edits: DocumentEdit[], kept: Kept | undefined, operation: Operation): Promise<void> {
    const { store, saves } = this.#context
    const admission = this.#admission
    const end = admission?.end(kept && JSON.stringify(kept))
    try {
      const { isOverlapped } = await save(store, saves, edits, operation, end)
      if (isOverlapped) this.overlapped()
      if (end !== undefined) admission?.saved(end)
    } catch (error) {
      if (error instanceof FST_BOTAS_STATE_REPLACED) await this.#rememberRefused()
      throw error
    }
  }

  /**
   * The storage refused to save a turn that was replaced: its activity is done all the same.
   *
   * @throws where that cannot be remembered, also because another delivery was saved meanwhile: then it is to be delivered again
   */
  async #rememberRefused (): Promise<void> {
    const { store, saves, operations, overlaps } = this.#context
    overlaps.replacedTurns++
    // Before its reply the turn answers with an error.
    const kept = this.#isReplyOut ? keptOfReplaced(this.#kept) : REPLACED_REPLY
    if (kept === undefined || this.#admission?.isOnce !== true) return
    const end = this.#admission.end(JSON.stringify(kept), true)
    await save(store, saves, [], operations.begin('save', [this.keys[0] as string], this.#watch), end)
  }

  #loadDocuments (operation: Operation): Promise<Array<Document | undefined>> {
    const { store, saves } = this.#context
    const { keys } = this
    if (!saves.isBusy(keys)) return store.load(keys, operation)
    this.waits()
    return saves.settled(keys).then(() => {
      operation.assertPending()
      operation.asks()
      return store.load(keys, operation)
    })
  }

  #useDocuments (found: Array<Document | undefined>): void {
    this.#documents.use(found, (error) => {
      if (this.#unusable === undefined) this.#context.operations.unusable(error)
      this.#unusable ??= error
      this.fail(error)
    })
  }

  #loadFailed (cause: unknown, operation: Operation | undefined): Error {
    const error = isAboutDocument(cause) ? cause : new FST_BOTAS_STATE_LOAD_FAILED(this.keys.map((key) => `"${key}"`).join(', '), { cause })
    this.#refuseAccess(() => error)
    operation?.failed(error)
    return error
  }
}

/** The turn was not admitted, which is no failure of the storage. */
function isRefusal (error: unknown): error is Error {
  return [FST_BOTAS_STATE_BUSY, FST_BOTAS_STATE_REPLACED, FST_BOTAS_STATE_TURN_ENDED].some((refusal) => error instanceof refusal)
}

/** An error of the server would be delivered again and again. */
function keptOfReplaced (kept: Kept | undefined): Kept | undefined {
  return kept === undefined || ('status' in kept && kept.status < 500) ? kept : REPLACED_REPLY
}
