import type { PersistedScope } from '../state/state-scope.js'
import { keyOf } from '../turn/identity.js'
import { SCOPES } from '../turn/turn-documents.js'
import type { TurnWatch } from '../turn/turn-watch.js'
import { InspectedTurn, type TurnSummary } from './inspected-turn.js'
import { now } from './now.js'

/** How many turns are remembered, the last ones. */
export const MAX_TURNS = 200
/** How many conversations and users are, those seen last. */
export const MAX_SEEN = 1000

/** A conversation, or a user, that has had turns. */
export interface Seen {
  key: string
  scope: PersistedScope
  id: string
  channelId: string
  botId: string
  /** How many turns it has had since it was first seen. */
  turns: number
  /** When the last one began, in milliseconds since 1970. */
  at: number
}

/** What a page is told: all, or what is new. */
export interface News {
  /** The time of the server, as that of turns. */
  now: number
  turns: TurnSummary[]
  seen: Seen[]
}

/** The last turns of one server, and whose they were. */
export class InspectedTurns {
  readonly #turns = new Map<number, InspectedTurn>()
  readonly #seen = new Map<string, { seen: Seen, revision: number }>()
  readonly #changed: () => void
  #begun = 0
  #revision = 0

  /** @param changed is called whenever there is news */
  constructor (changed: () => void) {
    this.#changed = changed
  }

  /** Counts everything that happens. */
  get revision (): number {
    return this.#revision
  }

  /** A turn begins. One that has no documents is not shown. */
  begin (hasClient: boolean): TurnWatch {
    return new InspectedTurn(++this.#begun, hasClient ? 'request' : 'run', (turn) => this.#note(turn))
  }

  /** One of the last turns. */
  turn (id: number): InspectedTurn | undefined {
    return this.#turns.get(id)
  }

  /** Whether somebody's document has this key. */
  hasSeen (key: string): boolean {
    return this.#seen.has(key)
  }

  /** What has happened after a revision. */
  since (revision: number): News {
    const isNews = (one: { revision: number }): boolean => one.revision > revision
    return {
      now: now(),
      turns: [...this.#turns.values()].filter(isNews).map(({ summary }) => summary),
      seen: [...this.#seen.values()].filter(isNews).map(({ seen }) => seen)
    }
  }

  #note (turn: InspectedTurn): void {
    if (turn.identity === undefined) return
    const isNew = turn.revision === 0
    turn.revision = ++this.#revision
    if (isNew) this.#add(turn)
    this.#changed()
  }

  /** Turns are numbered as they begin, and may be identified in another order. */
  #add (turn: InspectedTurn): void {
    this.#turns.set(turn.id, turn)
    trim(this.#turns, MAX_TURNS)
    for (const scope of SCOPES) this.#see(scope, turn)
  }

  #see (scope: PersistedScope, { identity }: InspectedTurn): void {
    const key = identity && keyOf(scope, identity)
    if (identity === undefined || key === undefined) return
    const { channelId, botId, conversationId, userId } = identity
    const turns = (this.#seen.get(key)?.seen.turns ?? 0) + 1
    const id = scope === 'conversation' ? conversationId : userId
    // The last one seen is the last in the map.
    this.#seen.delete(key)
    this.#seen.set(key, { seen: { key, scope, id: id as string, channelId, botId, turns, at: now() }, revision: this.#revision })
    trim(this.#seen, MAX_SEEN)
  }
}

/** Forgets what was added first. */
function trim (map: Map<unknown, unknown>, max: number): void {
  for (const key of map.keys()) {
    if (map.size <= max) return
    map.delete(key)
  }
}
