import { AnsweredTurns } from './answered-turns.js'
import { withDeadline } from '../waiting/deadline.js'
import { FST_BOTAS_STATE_NOT_A_TURN, FST_BOTAS_STATE_TURN_ENDED } from '../errors.js'
import { type TurnIdentity, checkedIdentity, missingIds } from './identity.js'
import { KeyedQueue } from '../waiting/keyed-queue.js'
import { OpenTurns } from './open-turns.js'
import { type BotasStateStats, Operations } from './telemetry.js'
import { documentStoreOf } from '../storage/document-store.js'
import type { OutageObserver, Storage } from '../storage/storage.js'
import { Turn, type TurnContext, type TurnOwner } from './turn.js'
import type { TurnState } from '../state/turn-state.js'

/** What is known of a storage that several plugin instances may share. */
interface SharedStorage {
  /** saves wait for each other wherever they come from */
  saves: KeyedQueue
  /** as a client's next message has to */
  answered: AnsweredTurns
  /** how many instances use it: the last one closes it */
  users: number
}

const sharedStorages = new WeakMap<Storage, SharedStorage>()

/** Is told what no caller gets to see. */
export interface TurnsObserver extends OutageObserver {
  /** A promise that kept a turn of `run` open was rejected after another failure. */
  rejected(error: unknown): void
}

/** What the turns of a server depend on; times in milliseconds. */
export interface TurnsOptions {
  storage: Storage
  loadTimeout: number
  saveTimeout: number
  /** how long closing waits for open turns, and then for the storage */
  closeTimeout: number
}

/** All turns of one server. */
export class Turns {
  readonly #context: TurnContext
  readonly #shared: SharedStorage
  readonly #storage: Storage
  readonly #closeTimeout: number
  readonly #observer: TurnsObserver
  readonly #unwatch: (() => void) | undefined
  #outage: BotasStateStats['outage'] = null

  /** @param observer is told when the storage cannot be reached and when it can again */
  constructor ({ storage, loadTimeout, saveTimeout, closeTimeout }: TurnsOptions, observer: TurnsObserver) {
    this.#observer = observer
    this.#storage = storage
    this.#shared = sharedStorages.get(storage) ?? { saves: new KeyedQueue(), answered: new AnsweredTurns(), users: 0 }
    this.#shared.users++
    sharedStorages.set(storage, this.#shared)
    this.#closeTimeout = closeTimeout
    this.#context = {
      store: documentStoreOf(storage),
      saves: this.#shared.saves,
      answered: this.#shared.answered,
      patience: loadTimeout / 2,
      operations: new Operations({ loadTimeout, saveTimeout }),
      open: new OpenTurns()
    }
    this.#unwatch = storage.watch?.({
      down: (reason) => {
        this.#outage = { since: this.#outage?.since ?? Date.now(), reason: reason.message }
        observer.down(reason)
      },
      up: () => {
        this.#outage = null
        observer.up()
      }
    })
  }

  get stats (): BotasStateStats {
    const { open, operations } = this.#context
    return { openTurns: open.count, ...operations.stats, outage: this.#outage && { ...this.#outage } }
  }

  /** A turn that is not identified yet. */
  make (owner: TurnOwner): Turn {
    return new Turn(this.#context, owner)
  }

  /** One turn from its identity to its save. */
  async run<Result> (
    identity: TurnIdentity, work: (state: TurnState) => Result | Promise<Result>
  ): Promise<Result> {
    const rejections: unknown[] = []
    let isDone = false
    const turn = this.make({
      unavailable: (scope) => new FST_BOTAS_STATE_NOT_A_TURN(scope, `the identity lacks ${missingIds(scope, identity).join(', ')}`),
      rejected: (error) => {
        if (isDone || rejections.length > 0) this.#observer.rejected(error)
        else rejections.push(error)
      }
    })
    turn.begin()
    try {
      await turn.load(checkedIdentity(identity))
      const result = await work(turn.state)
      while (turn.isKeptOpen) await new Promise<void>((resolve) => turn.whenIdle(resolve))
      if (rejections.length > 0) throw rejections[0]
      if (turn.corruption !== undefined) throw turn.corruption
      return result
    } catch (error) {
      turn.fail(error)
      for (const rejection of rejections) if (rejection !== error) this.#observer.rejected(rejection)
      throw error
    } finally {
      isDone = true
      turn.state.temp.seal((scope) => new FST_BOTAS_STATE_TURN_ENDED(scope))
      await turn.end()
    }
  }

  /** The server begins to close: aborts the signals of all open turns. */
  abort (): void {
    this.#context.open.close(new DOMException('the server is closing', 'AbortError'))
  }

  /**
   * Waits for the turns that are open, and closes the storage if nobody else uses it, each within the time to close.
   *
   * @returns how many turns were still open then
   */
  async close (): Promise<number> {
    const { open } = this.#context
    await withDeadline(open.none(), this.#closeTimeout).catch(() => {})
    const left = open.count
    this.#unwatch?.()
    this.#shared.users--
    if (this.#shared.users === 0 && this.#storage.close !== undefined) await withDeadline(this.#storage.close(), this.#closeTimeout)
    return left
  }
}
