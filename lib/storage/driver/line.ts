import { LOST_LIFETIME, waiterLifetime } from '../place-times.js'

/** Of a lease: a turn that has more of it left is not written again. One that is renewed at a third of its lease always is. */
const ENOUGH = 3 / 4

/** A turn in line for a place. */
interface TurnInLine {
  readonly holder: string
  /** when its time has passed, by the clock of the server, in milliseconds */
  readonly expires: number
  /** whether a later turn may take its place */
  readonly isReplaceable: boolean
}

/** Who asks for a place, and how. */
export interface Asking {
  readonly holder: string
  /** begins the holders of its process */
  readonly origin: string
  readonly lease: number
  readonly strategy: 'queue' | 'reject' | 'replace'
  readonly isReplaceable: boolean
}

/**
 * The turns in line for a place, the first of which holds it, and those that have lost it to another one. As text it is
 * `holder:expires:state;` for each in line, in the order of their arrival, then for those that have lost it; the state is 0, 1 where a later
 * turn may replace it, or 2 where it has lost its place.
 */
export class Line {
  #turns: TurnInLine[] = []
  readonly #lost = new Map<string, number>()
  /** the one that held the place until its time had passed: nobody has taken it since */
  #expired: TurnInLine | undefined
  readonly #now: number

  /**
   * @param own the holder that asks: while it is the first one, it has its place, also where its time has passed
   * @param now the time of the server, in milliseconds
   */
  constructor (text: string, own: string, now: number) {
    this.#now = now
    let isFirst = true
    for (const [, holder, digits, state] of text.matchAll(/([^:;]+):(\d+):(\d)/g) as Iterable<[string, string, string, string]>) {
      const expires = Number(digits)
      const turn = { holder, expires, isReplaceable: state === '1' }
      if (state === '2') {
        if (expires > now) this.#lost.set(holder, expires)
        continue
      }
      if (expires > now || (isFirst && holder === own)) this.#turns.push(turn)
      else if (isFirst) this.#expired = turn
      isFirst = false
    }
  }

  /** Takes the place, or stands in line for it. */
  enter ({ holder, origin, lease, strategy, isReplaceable }: Asking): 'entered' | 'waiting' | 'taken' | 'replaced' {
    const replaces = strategy === 'replace'
    if (replaces && this.#lost.has(holder)) return 'replaced'
    this.#lost.delete(holder)
    const numberOf = (name: string): number => Number.parseInt(name.slice(origin.length), 10)
    // Of one process only the first turn in line asks: an earlier one has left, and a later one has replaced this one, whose command was
    // overtaken.
    const isGone = (turn: TurnInLine): boolean => turn.holder !== holder && turn.holder.startsWith(origin)
    if (this.#turns.some((turn) => isGone(turn) && numberOf(turn.holder) > numberOf(holder))) return 'replaced'
    const ahead = this.#turns.slice(0, this.#positionOf(holder) ?? this.#turns.length).filter((turn) => replaces && turn.isReplaceable)
    for (const turn of ahead) if (!isGone(turn)) this.#lost.set(turn.holder, this.#now + LOST_LIFETIME)
    this.#turns = this.#turns.filter((turn) => !isGone(turn) && !ahead.includes(turn))
    const position = this.#positionOf(holder) ?? this.#turns.length
    if (strategy === 'reject' && position > 0) return 'taken'
    const lifetime = position === 0 ? lease : waiterLifetime(lease)
    this.#put(position, { holder, expires: this.#now + lifetime, isReplaceable }, position === 0 ? Infinity : lifetime / 2)
    if (position > 0) return 'waiting'
    if (this.#expired !== undefined) this.#lost.set(this.#expired.holder, this.#now + LOST_LIFETIME)
    this.#expired = undefined
    return 'entered'
  }

  /** Whether a turn holds the place. Where nobody is in line the place was forgotten, with the text, but not lost. */
  isHeldBy (holder: string): boolean {
    return !this.#lost.has(holder) && this.#expired === undefined && (this.#turns.length === 0 || this.#positionOf(holder) === 0)
  }

  /** The turn that holds the place holds it for longer. */
  renew ({ holder, lease, isReplaceable }: Pick<Asking, 'holder' | 'lease' | 'isReplaceable'>): void {
    this.#put(0, { holder, expires: this.#now + lease, isReplaceable }, lease * ENOUGH)
  }

  leave (holder: string): void {
    this.#turns = this.#turns.filter((turn) => turn.holder !== holder)
    this.#lost.delete(holder)
  }

  /** Nothing where nobody is in it. */
  toString (): string {
    return [
      ...(this.#expired === undefined ? [] : [this.#expired]).concat(this.#turns)
        .map(({ holder, expires, isReplaceable }) => `${holder}:${Math.ceil(expires)}:${isReplaceable ? 1 : 0}`),
      ...[...this.#lost].map(([holder, expires]) => `${holder}:${Math.ceil(expires)}:2`)
    ].join(';')
  }

  /** How long it has to be kept, in milliseconds. */
  get lifetime (): number {
    const last = Math.max(this.#now, ...this.#turns.map(({ expires }) => expires), ...this.#lost.values())
    return Math.ceil(last - this.#now + LOST_LIFETIME)
  }

  /** A turn that asks often is not written again with every question. */
  #put (position: number, turn: TurnInLine, least: number): void {
    const before = this.#turns[position]
    const isEnough = before !== undefined && before.isReplaceable === turn.isReplaceable && before.expires - this.#now > least
    if (!isEnough) this.#turns[position] = turn
  }

  #positionOf (holder: string): number | undefined {
    const position = this.#turns.findIndex((turn) => turn.holder === holder)
    return position < 0 ? undefined : position
  }
}
