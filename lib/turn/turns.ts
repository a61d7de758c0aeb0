import { AsyncLocalStorage } from 'node:async_hooks'
import { randomUUID } from 'node:crypto'
import { abortError } from './abort-error.js'
import type { Admission, SharedLines } from './admission.js'
import { AnsweredTurns } from './answered-turns.js'
import { withDeadline } from '../waiting/deadline.js'
import { FST_BOTAS_STATE_INVALID_OPTION, FST_BOTAS_STATE_NOT_A_TURN, FST_BOTAS_STATE_TURN_ENDED } from '../errors.js'
import { type TurnIdentity, checkedIdentity, keyOf, missingIds } from './identity.js'
import { KeyedQueue } from '../waiting/keyed-queue.js'
import { OpenTurns } from './open-turns.js'
import { busy } from './overlap/busy.js'
import { Lines } from './overlap/line.js'
import type { OnceLimits, Terms } from './overlap/terms.js'
import { WaitingTurns } from './overlap/waiting.js'
import { type Kept, keptResult, resultOf } from './kept.js'
import { type BotasStateStats, Operations, Overlaps } from './telemetry.js'
import { type DocumentStore, documentStoreOf, nameOfStorage } from '../storage/document-store.js'
import type { OutageObserver, Storage } from '../storage/storage.js'
import { Turn, type TurnContext, type TurnOwner } from './turn.js'
import type { WatchTurn } from './turn-watch.js'
import type { TurnState } from '../state/turn-state.js'

/** What is known of a storage that several plugin instances may share. */
interface SharedStorage {
  /** saves wait for each other wherever they come from */
  saves: KeyedQueue
  /** as a client's next message has to */
  answered: AnsweredTurns
  /** turns wait for their places wherever they come from, too */
  lines: SharedLines
  /** inside which turns something goes on, wherever they come from; left out where no turn holds anything */
  inside: AsyncLocalStorage<Inside> | undefined
  /** how many instances use it: the last one closes it */
  users: number
}

const sharedStorages = new WeakMap<Storage, SharedStorage>()

function newlyShared (): SharedStorage {
  return {
    saves: new KeyedQueue(),
    answered: new AnsweredTurns(),
    lines: { places: new Lines(), activities: new Lines(), origin: `${randomUUID()}-`, held: 0 },
    inside: undefined,
    users: 0
  }
}

/** What goes on inside a turn that holds something: what begins there shares its place, and does not wait for its activity. */
interface Inside {
  readonly admission: Admission
  readonly outer: Inside | undefined
}

/** Is told what no caller gets to see. */
export interface TurnsObserver extends OutageObserver {
  /** A turn of `run` was merged with another one of its conversation, which should not have been at work. */
  overlapped(keys: string[]): void
  /** A promise that kept a turn of `run` open was rejected after another failure. */
  rejected(error: unknown): void
}

/** What the turns of a server depend on; times in milliseconds. */
export interface TurnsOptions {
  storage: Storage
  /** on which `run` begins its turns */
  terms: Omit<Terms, 'activity'>
  once: OnceLimits | undefined
  rules: TurnContext['rules']
  loadTimeout: number
  saveTimeout: number
  /** how long closing waits for open turns, and then for the storage */
  closeTimeout: number
}

/** Where the turns of a server are found by what tests it, on its `botasState`. */
export const kTurns = Symbol('fastify-botas-state.turns')

/** All turns of one server. */
export class Turns {
  readonly #context: TurnContext
  readonly #shared: SharedStorage
  readonly #storage: Storage
  readonly #closeTimeout: number
  readonly #observer: TurnsObserver
  readonly #options: TurnsOptions
  readonly #inside: AsyncLocalStorage<Inside> | undefined
  readonly #unwatch: (() => void) | undefined
  #outage: BotasStateStats['outage'] = null

  /** @param observer is told when the storage cannot be reached and when it can again */
  constructor (options: TurnsOptions, observer: TurnsObserver) {
    const { storage, terms, rules, loadTimeout, saveTimeout, closeTimeout } = options
    this.#options = options
    const store = documentStoreOf(storage)
    if (options.once !== undefined && store.holds?.remembers !== true) throw cannotRemember(storage)
    this.#observer = observer
    this.#storage = storage
    this.#shared = sharedStorages.get(storage) ?? newlyShared()
    this.#shared.users++
    sharedStorages.set(storage, this.#shared)
    if (terms.strategy !== 'parallel' || options.once !== undefined) this.#inside = this.#shared.inside ??= new AsyncLocalStorage()
    this.#closeTimeout = closeTimeout
    this.#context = {
      store,
      rules,
      saves: this.#shared.saves,
      answered: this.#shared.answered,
      patience: loadTimeout / 2,
      lines: this.#shared.lines,
      waiting: new WaitingTurns(),
      overlaps: new Overlaps(),
      operations: new Operations({ loadTimeout, saveTimeout }),
      open: new OpenTurns(),
      watchTurn: undefined
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

  /** Whether turns wait for those of other processes; `undefined` where there may be some for which they do not. */
  get isShared (): boolean | undefined {
    return this.#context.store.holds?.isShared
  }

  get stats (): BotasStateStats {
    const { open, waiting, overlaps: { leasesLost, replacedTurns, replayedTurns }, operations } = this.#context
    return {
      openTurns: open.count,
      waitingTurns: waiting.count,
      leasesLost,
      replacedTurns,
      replayedTurns,
      ...operations.stats,
      outage: this.#outage && { ...this.#outage }
    }
  }

  /** A turn that is not identified yet. */
  make (owner: TurnOwner): Turn {
    return new Turn(this.#context, owner)
  }

  /** Goes on inside a turn: what begins there, and belongs to its conversation, shares its place. */
  inside<Result> (turn: Turn, work: () => Result): Result {
    if (this.#inside === undefined || turn.admission === undefined) return work()
    return this.#inside.run({ admission: turn.admission, outer: heldBy(this.#inside.getStore()) }, work)
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
      },
      overlapped: () => this.#observer.overlapped(turn.keys)
    })
    turn.begin()
    try {
      const kept = await this.#load(turn, checkedIdentity(identity))
      if (kept !== undefined) return resultOf(kept) as Result
      const result = await this.inside(turn, () => work(turn.state))
      while (turn.isKeptOpen) await new Promise<void>((resolve) => turn.whenIdle(resolve))
      if (rejections.length > 0) throw rejections[0]
      if (turn.unusable !== undefined) throw turn.unusable
      if (turn.replacement !== undefined) throw turn.replacement
      if (this.#options.once !== undefined) turn.keep(keptResult(result, this.#options.once.keepReply))
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

  async #load (turn: Turn, identity: TurnIdentity): Promise<Kept | undefined> {
    const { terms } = this.#options
    const key = keyOf('conversation', identity) ?? keyOf('user', identity)
    const activity = this.activityOf(identity)
    const outside = key === undefined ? [] : this.#outside()
    // Inside the turn that handles an activity it would wait for itself.
    const isHandled = activity !== undefined && outside.some((admission) => admission.handles(key as string, activity.id))
    return turn.load(identity, { ...terms, activity: isHandled ? undefined : activity }, outside.find((admission) => admission.holdsPlaceOf(key as string)))
  }

  /** Whether activities are handled once. */
  get isOnce (): boolean {
    return this.#options.once !== undefined
  }

  /** What is handled once of a turn, if anything is. */
  activityOf ({ activityId }: TurnIdentity): Terms['activity'] {
    const { once } = this.#options
    return once === undefined || activityId == null ? undefined : { id: activityId, limits: once }
  }

  /** What the turns hold inside which this goes on, the innermost first. */
  #outside (): Admission[] {
    const admissions: Admission[] = []
    for (let inside = this.#inside?.getStore(); inside !== undefined; inside = inside.outer) admissions.push(inside.admission)
    return admissions
  }

  /** The server begins to close: refuses the turns that wait, and aborts the signals of all open ones. */
  abort (): void {
    this.#context.waiting.close(busy('the server is closing'))
    this.#context.open.close(abortError('the server is closing'))
  }

  /** Whether somebody watches the turns. */
  get isWatched (): boolean {
    return this.#context.watchTurn !== undefined
  }

  /** Lets one watch all turns that begin from now on. */
  watchWith (watchTurn: WatchTurn): void {
    this.#context.watchTurn = watchTurn
  }

  /** Lets a test stand between the turns and their storage. */
  intercept (wrap: (store: DocumentStore) => DocumentStore): void {
    this.#context.store = wrap(this.#context.store)
  }

  /**
   * Resolves when no turn is open.
   *
   * @throws where that takes longer than closing would wait
   */
  over (): Promise<void> {
    const { open } = this.#context
    return this.inTime(open.none(), 'turns are still open')
  }

  /**
   * Settles as `work` does.
   *
   * @throws saying so where that takes longer than closing would wait
   */
  async inTime (work: Promise<void>, complaint: string): Promise<void> {
    await withDeadline(work, this.#closeTimeout).catch(() => { throw new Error(`${complaint} after ${this.#closeTimeout} ms, the option "flushTimeout"`) })
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

/** What is over is left out: one turn may begin the next for ever. */
function heldBy (inside: Inside | undefined): Inside | undefined {
  return inside?.admission.isOver === true ? heldBy(inside.outer) : inside
}

function cannotRemember (storage: Storage): Error {
  return new FST_BOTAS_STATE_INVALID_OPTION('the option "once" needs a storage that stores documents and the mark of an activity in ' +
    'one step: MemoryStorage, FileStorage, RedisStorage or PostgresStorage, but no class that overrides their methods, or one that has "commit" and ' +
    `"recall"; ${nameOfStorage(storage)} has not`)
}
