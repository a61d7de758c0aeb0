import { withDeadline } from './deadline.js'
import { type StateDocument, assertDocument } from './document.js'
import { FST_BOTAS_STATE_CORRUPT_DOCUMENT, FST_BOTAS_STATE_LOAD_FAILED } from './errors.js'
import { type DocumentChange, flush } from './flush.js'
import { type PersistedScope, type TurnIdentity, assertIdentity, scopeKey } from './identity.js'
import type { KeyQueue } from './key-queue.js'
import { type Operations, storageCall } from './operations.js'
import type { Storage } from './storage/storage.js'
import { TurnScopes } from './turn-state.js'

/** What the turns of one server share. */
export interface TurnContext {
  storage: Storage
  /** the flushes of this storage that are queued or running */
  flushes: KeyQueue
  operations: Operations
  /** milliseconds */
  loadTimeout: number
  /** milliseconds */
  flushTimeout: number
  /** the turns that are identified and not over: what `close` has to wait for */
  open: Set<Turn>
}

/** One turn: identified and loaded, succeeded or failed, flushed. */
export class Turn {
  readonly state: TurnScopes
  readonly #context: TurnContext
  readonly #loaded: Array<{ scope: PersistedScope, key: string, document: StateDocument | undefined }> = []
  #loadError: Error | undefined
  #failed = false
  #over: Promise<void> | undefined
  #tellOver: Array<() => void> = []

  /** @param unavailable makes the error for a persisted scope that is not, or not yet, there */
  constructor (context: TurnContext, unavailable: (scope: PersistedScope) => Error) {
    this.#context = context
    this.state = new TurnScopes((scope) => this.#loadError ?? unavailable(scope))
  }

  /** The keys of the documents that the turn was loaded with. */
  get keys (): string[] {
    return this.#loaded.map(({ key }) => key)
  }

  get failed (): boolean {
    return this.#failed
  }

  /**
   * Loads the persisted scopes that the identity has ids for, after every flush of the same keys that is running:
   * who saw the reply of a turn finds what it wrote.
   *
   * @throws FST_BOTAS_STATE_INVALID_ID
   * @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT
   * @throws FST_BOTAS_STATE_LOAD_FAILED
   */
  async load (identity: TurnIdentity): Promise<void> {
    assertIdentity(identity)
    const keys = keysOf(identity)
    this.#context.open.add(this)
    if (keys.size === 0) return
    await this.#context.operations.measure('load', [...keys.values()], (retrying) => this.#load(keys, retrying))
    for (const { scope, document } of this.#loaded) this.state[scope].load(document)
  }

  /** The turn has failed, for good: nothing of it will be stored, and its persisted scopes take no more changes. */
  fail (): void {
    this.#failed = true
    this.state.conversation.seal()
    this.state.user.seal()
  }

  /**
   * The turn is over. Flushes what it changed unless it failed. A second call waits for the first. `temp` stays open,
   * for hooks that are still to run.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE where an object was changed in place to what JSON cannot hold
   * @throws FST_BOTAS_STATE_SAVE_FAILED
   */
  end (): Promise<void> {
    this.#over ??= this.#end()
    return this.#over
  }

  /** Resolves when the turn is over and its flush, successful or not, is done. */
  whenOver (): Promise<void> {
    return new Promise((resolve) => { this.#tellOver.push(resolve) })
  }

  async #end (): Promise<void> {
    this.state.conversation.seal()
    this.state.user.seal()
    try {
      if (!this.#failed) await this.#flush()
    } finally {
      this.#context.open.delete(this)
      for (const tell of this.#tellOver) tell()
    }
  }

  async #flush (): Promise<void> {
    const { storage, flushes, flushTimeout, operations } = this.#context
    let changes: DocumentChange[]
    try {
      changes = this.#changes()
    } catch (error) {
      return operations.measure('flush', this.keys, () => Promise.reject(error))
    }
    if (changes.length === 0) return
    await operations.measure('flush', changes.map(({ key }) => key), (retrying) =>
      flush(storage, flushes, changes, flushTimeout, retrying))
  }

  /** All scopes are encoded here, before any is written. */
  #changes (): DocumentChange[] {
    return this.#loaded.flatMap(({ scope, key, document }) => {
      const change = this.state[scope].changes()
      return change === undefined ? [] : [{ key, change, loaded: document }]
    })
  }

  async #load (keys: Map<PersistedScope, string>, retrying: () => void): Promise<void> {
    try {
      const documents = await this.#read([...keys.values()], retrying)
      for (const [scope, key] of keys) {
        const document = Object.hasOwn(documents, key) ? documents[key] : undefined
        if (document !== undefined) assertDocument(document, key)
        this.#loaded.push({ scope, key, document })
      }
    } catch (cause) {
      this.#loadError = cause instanceof FST_BOTAS_STATE_CORRUPT_DOCUMENT
        ? cause
        : new FST_BOTAS_STATE_LOAD_FAILED([...keys.values()].map((key) => `"${key}"`).join(', '), { cause })
      throw this.#loadError
    }
  }

  async #read (keys: string[], retrying: () => void): Promise<Record<string, unknown>> {
    const { storage, flushes, loadTimeout } = this.#context
    return withDeadline(async (deadline) => {
      await flushes.settled(keys)
      // Nobody waits any more: a storage that has trouble enough is not asked.
      if (deadline.expired) throw new Error('the load was given up')
      return storage.read(keys, storageCall(deadline, retrying))
    }, loadTimeout)
  }
}

function keysOf (identity: TurnIdentity): Map<PersistedScope, string> {
  const keys = new Map<PersistedScope, string>()
  for (const scope of ['conversation', 'user'] as const) {
    const key = scopeKey(scope, identity)
    if (key !== undefined) keys.set(scope, key)
  }
  return keys
}
