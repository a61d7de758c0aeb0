import type { Document } from '../document/document.js'
import { FST_BOTAS_STATE_REPLACED, FST_BOTAS_STATE_TURN_ENDED } from '../errors.js'
import type { DocumentStore, Entry, Hold, TurnEnd } from '../storage/document-store.js'
import { taken } from './overlap/busy.js'
import type { LineMember, Lines } from './overlap/line.js'
import { type MetTurn, assertMayWait, meet } from './overlap/meeting.js'
import type { OnceActivity, Strategy, Terms } from './overlap/terms.js'
import { Waiting, type WaitingTurns } from './overlap/waiting.js'
import { Renewal, leaveAfter } from './renewal.js'
import type { Operation, Overlaps } from './telemetry.js'

/** How long to wait before a storage is asked again, from and to, in milliseconds, on average. */
const MIN_PAUSE = 5
const MAX_PAUSE = 50

/** The turns that share a storage, in this process. */
export interface SharedLines {
  readonly places: Lines<Admission>
  readonly activities: Lines<LineMember>
  /** begins the names of all that hold something */
  readonly origin: string
  held: number
}

/** What the admissions of one server share. */
export interface AdmissionContext {
  readonly store: DocumentStore
  readonly lines: SharedLines
  readonly waiting: WaitingTurns
  readonly overlaps: Overlaps
}

/** A turn that is admitted. */
export interface AdmittedTurn {
  /** Whether it only remains to be saved. */
  readonly isDecided: boolean
  /** It begins to wait for its place, or for another delivery of its activity. */
  waits(): void
  /** Nothing of it will be saved. */
  replaced(error: Error): void
  /** Another turn may have been at work meanwhile. */
  overlapped(): void
}

/** How an admitted turn loads its documents. */
export interface Loading {
  readonly keys: string[]
  /** Resolves when what has to be saved before is saved. */
  ready(): Promise<void> | undefined
  /** The load, begun when the storage is first asked. */
  operation(): Operation
}

/** What an admission ends with: the documents; or the reply of the delivery that handled the activity before. */
export type Admitted = { documents: Array<Document | undefined>, reply?: never } | { documents?: never, reply: string }

/** The one place before a load: what a turn waits for, and holds until it is over. */
export class Admission implements LineMember, MetTurn {
  readonly #context: AdmissionContext
  readonly #key: string
  readonly #terms: Terms
  #turn: AdmittedTurn | undefined
  /** the turn whose place this one shares, because it began inside */
  readonly #outer: Admission | undefined
  #hold: Hold
  readonly #waiting: Waiting
  #state: 'entering' | 'admitted' | 'ending' | 'left' = 'entering'
  /** the turns that share its place, this one included */
  readonly #sharing = new Set<AdmittedTurn>()
  /** whether something may be held in the storage */
  #isHolding = false
  #isReplaced = false
  #isLost = false
  /** the place goes with the save that is under way */
  #isLeaving = false
  #onFirst: (() => void) | undefined
  /** whether it is still on its way to be admitted, also where it was left meanwhile */
  #isEntering = true
  #isToWait = false
  #renewal: Renewal | undefined
  /** whether what the save let go of may have been renewed after it */
  #isRenewed: (() => boolean) | undefined

  /** @param key of the document that place and activity stand beside */
  constructor (context: AdmissionContext, key: string, terms: Terms, turn: AdmittedTurn, outer?: Admission) {
    const { strategy, limits: { lease }, activity } = terms
    this.#context = context
    this.#key = key
    this.#terms = terms
    this.#turn = turn
    this.#waiting = new Waiting(context.waiting, () => this.#turn?.waits())
    this.#outer = outer === undefined ? undefined : outer.#outer ?? outer
    this.#hold = {
      key,
      origin: context.lines.origin,
      holder: outer === undefined ? nextHolder(context.lines) : outer.#hold.holder,
      arrived: outer === undefined ? Date.now() : outer.#hold.arrived,
      lease,
      place: outer !== undefined ? outer.#hold.place : placeOf(strategy),
      activity: activity && { id: activity.id, ttl: activity.limits.ttl }
    }
    this.#sharing.add(turn)
    if (this.#outer !== undefined) this.#outer.#sharing.add(turn)
  }

  /** Whether it holds the place of a document, so that a turn that begins inside can share it. */
  holdsPlaceOf (key: string): boolean {
    if (this.#key !== key || this.#hold.place === undefined || this.#isReplaced || this.#isLost) return false
    return this.#state === 'admitted' || (this.#state === 'ending' && !this.#isLeaving)
  }

  /** Whether the turn is one that handles its activity once. */
  get isOnce (): boolean {
    return this.#hold.activity !== undefined
  }

  /** Whether its end is to be remembered: what is over before it is admitted has handled nothing. */
  get isToRemember (): boolean {
    return this.isOnce && !this.#isEntering
  }

  /** Whether it is this activity, beside this document, that the turn handles once. */
  handles (key: string, activityId: string): boolean {
    return this.#key === key && this.#hold.activity?.id === activityId
  }

  /** Whether nothing is held any more. */
  get isOver (): boolean {
    return this.#state === 'left'
  }

  /** Whether a later turn has taken its place. */
  get isReplaced (): boolean {
    return this.#isReplaced
  }

  /** Whether it takes a place of its own. */
  get #takesPlace (): boolean {
    return this.#hold.place !== undefined && this.#outer === undefined
  }

  /** The activity alone. */
  get #claim (): Hold {
    return { ...this.#hold, place: undefined }
  }

  /**
   * Waits, takes what the turn has to hold, and loads its documents: the activity, first in this process, then the place, first in
   * this process, then both in the storage.
   *
   * @throws FST_BOTAS_STATE_BUSY, FST_BOTAS_STATE_REPLACED, FST_BOTAS_STATE_TURN_ENDED where it was left meanwhile, and what the
   *   storage throws
   */
  async enter (loading: Loading): Promise<Admitted> {
    const { overlaps } = this.#context
    const settled = (error?: Error): void => {
      if (this.#takesPlace) overlaps.publish(this.#key, this.#waiting.waited, error)
    }
    try {
      const admitted = await this.#admit(loading)
      settled()
      return admitted
    } catch (error) {
      settled(error as Error)
      // Other deliveries of the activity wait until it is marked, which it is where this turn was replaced.
      this.#context.lines.places.leave(this.#key, this)
      throw error
    } finally {
      this.#isEntering = false
      // What the storage was asked for meanwhile is given back.
      if (this.#state === 'left') this.#letGo()
    }
  }

  async #admit (loading: Loading): Promise<Admitted> {
    const { activity } = this.#terms
    if (activity !== undefined) await this.#waitForDeliveries(activity.limits.maxWait)
    let entry = await this.#takePlace(loading)
    for (let pause = MIN_PAUSE; entry.outcome === 'running'; pause = longer(pause)) {
      await this.#waiting.pause(pause, (activity as OnceActivity).limits.maxWait, NOT_DONE)
      entry = await this.#ask(this.#claim, { ...loading, keys: [] })
      if (entry.outcome === 'entered') entry = await this.#takePlace(loading)
    }
    this.#waiting.throwIfRefused()
    switch (entry.outcome) {
      case 'entered':
        this.#state = 'admitted'
        this.#renew()
        return entry
      case 'done':
        this.leave()
        return { reply: entry.reply }
      case 'replaced':
        this.#replaceBy(new FST_BOTAS_STATE_REPLACED())
        throw this.#waiting.refusal
      default:
        throw taken()
    }
  }

  /** Waits for the deliveries of the same activity in this process. */
  async #waitForDeliveries (maxWait: number): Promise<void> {
    const { activities } = this.#context.lines
    const key = this.#activityKey
    if (activities.join(key, this).length === 0) return
    await this.#waitToBeFirst(maxWait, NOT_DONE, () => activities.isFirst(key, this))
  }

  /** In this process, then in the storage. */
  async #takePlace (loading: Loading): Promise<Entry> {
    const { lines: { places } } = this.#context
    if (this.#takesPlace) this.#hold = { ...this.#hold, holder: nextHolder(this.#context.lines), arrived: Date.now() }
    if (this.#takesPlace && places.join(this.#key, this).length > 0) {
      // A delivery of an activity that was handled gets its reply at once, and takes nobody's place.
      const claim = this.#terms.activity && await this.#ask(this.#claim, { ...loading, keys: [] })
      if (claim !== undefined && claim.outcome !== 'entered') {
        places.leave(this.#key, this)
        return claim
      }
      await this.#waitInLine()
    }
    await loading.ready()
    const hold = this.#takesPlace ? this.#hold : this.#claim
    let entry = await this.#ask(hold, loading)
    for (let pause = MIN_PAUSE; entry.outcome === 'waiting'; pause = longer(pause)) {
      if (pause === MIN_PAUSE) this.#toWait()
      await this.#waiting.pause(pause, this.#terms.limits.maxWait, LATE)
      entry = await this.#ask(hold, loading)
    }
    this.#isToWait = false
    if (entry.outcome === 'running') places.leave(this.#key, this)
    return entry
  }

  /** Meets those before it in this process, and waits for the ones that are left. */
  async #waitInLine (): Promise<void> {
    const { lines: { places } } = this.#context
    const { strategy, limits: { maxWait } } = this.#terms
    meet(strategy, places.before(this.#key, this))
    if (!places.isFirst(this.#key, this)) this.#toWait()
    await this.#waitToBeFirst(maxWait, LATE, () => places.isFirst(this.#key, this))
    this.#isToWait = false
  }

  /** @throws FST_BOTAS_STATE_BUSY where as many wait as may wait */
  #toWait (): void {
    assertMayWait(this.#context.lines.places.before(this.#key, this), this.#terms.limits)
    this.#isToWait = true
  }

  /** Asks the storage. A turn that was refused meanwhile asks no more: it would take the place from the one that replaced it. */
  async #ask (hold: Hold, { keys, operation }: Loading): Promise<Entry> {
    const { store } = this.#context
    this.#waiting.throwIfRefused()
    const load = operation()
    const wasHolding = this.#isHolding
    this.#isHolding = store.holds !== undefined
    const entry = await load.inTime(store.holds === undefined
      ? store.load(keys, load).then((documents): Entry => ({ outcome: 'entered', documents }))
      : store.holds.enter(hold, keys, load))
    if (entry.outcome === 'done' || entry.outcome === 'running') this.#isHolding = wasHolding
    this.#waiting.throwIfRefused()
    return entry
  }

  async #waitToBeFirst (maxWait: number, reason: string, isFirst: () => boolean): Promise<void> {
    if (!isFirst()) await this.#waiting.until((resume) => { this.#onFirst = resume }, maxWait, reason)
  }

  first (): void {
    this.#onFirst?.()
  }

  /** Whether it waits for its place. */
  get isToWait (): boolean {
    return this.#isToWait
  }

  /** Whether nothing but its save is to come. */
  get isDecided (): boolean {
    return this.#state === 'ending' || this.#state === 'left' || this.#turn?.isDecided === true
  }

  /** Makes room for a later turn, unless this one is being saved, or did not come to be replaced. */
  replace (): void {
    if (this.#hold.place?.isReplaceable !== true || this.isDecided || this.#isReplaced) return
    this.#replaceBy(new FST_BOTAS_STATE_REPLACED())
    this.#context.lines.places.leave(this.#key, this)
  }

  #replaceBy (error: Error): void {
    this.#isReplaced = true
    this.#waiting.refuse(error)
    for (const turn of this.#sharing) turn.replaced(error)
  }

  /** For as long as the turn is open. */
  #renew (): void {
    const { store: { holds } } = this.#context
    const { place, activity } = this.#renewed
    if (holds?.isShared !== true || (place === undefined && activity === undefined)) return
    this.#renewal = new Renewal(holds, () => this.#renewed, () => { if (this.#state === 'admitted') this.#onLost() })
  }

  /** What is to be held for longer: a turn that is being saved cannot be replaced any more. */
  get #renewed (): Hold {
    const { place } = this.#hold
    if (place === undefined || !this.#takesPlace || this.#isLost || this.#isReplaced) return this.#claim
    return this.#state === 'ending' ? { ...this.#hold, place: { ...place, isReplaceable: false } } : this.#hold
  }

  #onLost (): void {
    this.#isLost = true
    // Those behind it wait for whoever has the place now.
    this.#context.lines.places.leave(this.#key, this)
    if (this.#hold.place?.isReplaceable === true) this.replace()
    else for (const turn of this.#sharing) turn.overlapped()
  }

  /**
   * The turn is about to be saved, and cannot be replaced any more.
   *
   * @param reply is kept for the next deliveries of the activity; without one it may be handled again
   * @param isReplaced whether nothing else of the turn is stored
   * @returns what the storage needs to know; nothing where nothing is held there
   */
  end (reply: string | undefined, isReplaced = this.#isReplaced || this.#outer?.isReplaced === true): TurnEnd | undefined {
    this.#state = 'ending'
    if (this.#context.store.holds === undefined) return undefined
    const hold = isReplaced ? this.#claim : this.#hold
    const leaves = hold.place !== undefined && this.#takesPlace && this.#sharing.size === 1
    this.#isLeaving = leaves
    this.#isRenewed = this.#renewal?.watch()
    return { hold, reply: hold.activity === undefined ? undefined : reply, leaves }
  }

  /** What was held may be let go together with the save. */
  saved ({ reply, leaves }: TurnEnd): void {
    if (this.#context.store.holds?.isLeftBySave !== true) return
    const isClaimed = this.isOnce && reply === undefined
    this.#isHolding = isClaimed || (this.#takesPlace && (!leaves || this.#isRenewed?.() === true))
  }

  /**
   * The turn is over. Its place is left when all turns that share it are over.
   *
   * @returns a promise where the storage has to be told
   */
  leave (turn: AdmittedTurn | undefined = this.#turn): Promise<void> | undefined {
    // It was left before.
    if (turn === undefined) return
    this.#sharing.delete(turn)
    const outer = this.#outer?.leave(turn)
    if (this.#sharing.size > 0) return outer
    this.#state = 'left'
    // What goes on inside may keep the admission, but not the turn.
    this.#turn = undefined
    if (!this.#isEntering) return this.#letGo() ?? outer
    this.#waiting.refuse(new FST_BOTAS_STATE_TURN_ENDED('conversation and user'))
  }

  /** @returns a promise where the storage has to be told */
  #letGo (): Promise<void> | undefined {
    const { store: { holds }, lines } = this.#context
    const renewed = this.#renewal?.stop()
    const hold = this.#takesPlace ? this.#hold : this.#claim
    const isHeld = this.#isHolding && holds?.isShared === true && (hold.place ?? hold.activity) !== undefined
    lines.places.leave(this.#key, this)
    if (this.#hold.activity !== undefined) lines.activities.leave(this.#activityKey, this)
    return isHeld ? leaveAfter(renewed, holds, hold) : undefined
  }

  get #activityKey (): string {
    return `${this.#key}\n${this.#hold.activity?.id}`
  }
}

const LATE = 'the turn has not got its place in the conversation'
const NOT_DONE = 'another delivery of the activity is not done'

/** Greater for those who join the line later. */
function nextHolder (lines: SharedLines): string {
  return `${lines.origin}${lines.held++}`
}

function placeOf (strategy: Strategy): Hold['place'] {
  return strategy === 'parallel' ? undefined : { strategy, isReplaceable: strategy === 'replace' }
}

function longer (pause: number): number {
  return Math.min(pause * 2, MAX_PAUSE)
}
