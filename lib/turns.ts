import { withDeadline } from './deadline.js'
import { FST_BOTAS_STATE_NOT_A_TURN } from './errors.js'
import { type PersistedScope, type TurnIdentity, missingIds } from './identity.js'
import { KeyQueue } from './key-queue.js'
import type { Storage } from './storage/storage.js'
import { Turn, type TurnContext } from './turn.js'
import type { TurnState } from './turn-state.js'

/** Flushes wait for each other wherever they come from: two plugin instances may share a storage. */
const flushesOf = new WeakMap<Storage, KeyQueue>()

/** All turns of one server. */
export class Turns {
  readonly #context: TurnContext

  constructor (options: Pick<TurnContext, 'storage' | 'loadTimeout' | 'flushTimeout'>) {
    const flushes = flushesOf.get(options.storage) ?? new KeyQueue()
    flushesOf.set(options.storage, flushes)
    this.#context = { ...options, flushes, open: new Set() }
  }

  /** A turn that is not identified yet. */
  begin (unavailable: (scope: PersistedScope) => Error): Turn {
    return new Turn(this.#context, unavailable)
  }

  /** One turn from its identity to its flush. */
  async run<Result> (
    identity: TurnIdentity, work: (state: TurnState) => Result | Promise<Result>
  ): Promise<Result> {
    const turn = this.begin((scope) => new FST_BOTAS_STATE_NOT_A_TURN(scope, missingIds(scope, identity).join(', ')))
    try {
      await turn.load(identity)
      const result = await work(turn.state)
      await turn.end()
      return result
    } catch (error) {
      turn.fail()
      await turn.end()
      throw error
    }
  }

  /**
   * Waits for the turns that are open, but not longer than a flush may take, and closes the storage.
   *
   * @returns how many turns were still open then
   */
  async close (): Promise<number> {
    const { open, flushTimeout, storage } = this.#context
    await withDeadline(this.#drained(), flushTimeout).catch(() => {})
    const left = open.size
    await storage.close?.()
    return left
  }

  async #drained (): Promise<void> {
    while (this.#context.open.size > 0) {
      await Promise.all([...this.#context.open].map((turn) => turn.whenOver()))
    }
  }
}
