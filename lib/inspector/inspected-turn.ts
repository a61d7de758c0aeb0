import type { Document, Edit } from '../document/document.js'
import { type TurnIdentity, keyOf } from '../turn/identity.js'
import type { StateEvent } from '../turn/telemetry.js'
import { SCOPES } from '../turn/turn-documents.js'
import type { Phase, TurnWatch } from '../turn/turn-watch.js'
import { type DocumentChanges, type EditedMembers, documentChanges, editedMembers } from './document-changes.js'
import { now } from './now.js'
import { copyOf } from './shown-text.js'
import { thrownBy } from './thrown.js'

/** What became of a turn: `unchanged` succeeded, and had nothing to save; of `failed` some documents may be saved, see `saved`. */
export type Outcome = 'open' | 'saved' | 'unchanged' | 'failed' | 'replaced' | 'replayed'

/** A turn as it is shown in a timeline. */
export interface TurnSummary {
  id: number
  /** A request, or `botasState.run`. */
  via: 'request' | 'run'
  identity: TurnIdentity
  /** Of its documents, that of the conversation first. */
  keys: string[]
  /** When it was identified, in milliseconds since 1970. */
  from: number
  /** Each ends where the next one begins; in milliseconds since 1970. */
  phases: Array<{ name: Phase, from: number }>
  /** When it was over; left out while it is open. */
  to?: number
  outcome: Outcome
  /** The code of its error, or the name of one that has no code. */
  code?: string
  /** The keys of the documents that it saved: where its save failed, it may have saved some. */
  saved: string[]
  /** How often the storage had to load or save again. */
  retries: number
  /** Whether it lost its place, and was merged with a turn that came between. */
  isOverlapped: boolean
  /** How many values it changed. */
  changeCount: number
}

/** All that is noted of a turn. */
export interface TurnDetails {
  turn: TurnSummary
  /** What was thrown, as far as it says so. */
  message?: string
  /** What it changed, saved or not. */
  documents: DocumentChanges[]
}

/** Notes one turn as it goes. */
export class InspectedTurn implements TurnWatch {
  readonly id: number
  /** that of its last change; 0 before the first */
  revision = 0
  readonly #via: TurnSummary['via']
  readonly #changed: (turn: InspectedTurn) => void
  #identity: TurnIdentity | undefined
  #keys: string[] = []
  #from = 0
  #phases: TurnSummary['phases'] = []
  #to: number | undefined
  #outcome: Outcome = 'open'
  #code: string | undefined
  #message: string | undefined
  #saved: string[] = []
  #retries = 0
  #isOverlapped = false
  #isSaved = false
  /** by the keys of their documents, until the turn is over */
  #edits = new Map<string, EditedMembers>()
  #documents: DocumentChanges[] = []

  /** @param changed is called whenever there is news */
  constructor (id: number, via: TurnSummary['via'], changed: (turn: InspectedTurn) => void) {
    this.id = id
    this.#via = via
    this.#changed = changed
  }

  /** Whose turn it is; left out before that is known. */
  get identity (): TurnIdentity | undefined {
    return this.#identity
  }

  /** What a timeline shows of a turn that is identified. */
  get summary (): TurnSummary {
    return {
      id: this.id,
      via: this.#via,
      identity: this.#identity as TurnIdentity,
      keys: this.#keys,
      from: this.#from,
      phases: this.#phases,
      ...this.#to !== undefined && { to: this.#to },
      outcome: this.#outcome,
      ...this.#code !== undefined && { code: this.#code },
      saved: this.#saved,
      retries: this.#retries,
      isOverlapped: this.#isOverlapped,
      changeCount: this.#documents.reduce((sum, { changes, leftOut }) => sum + changes.length + leftOut, 0)
    }
  }

  /** The same, with what is shown when it is opened. */
  get details (): TurnDetails {
    return { turn: this.summary, ...this.#message !== undefined && { message: this.#message }, documents: this.#documents }
  }

  identified (identity: TurnIdentity): void {
    const ids = Object.entries(identity).filter(([, id]) => typeof id === 'string').map(([name, id]) => [name, copyOf(id)])
    this.#identity = Object.fromEntries(ids) as TurnIdentity
    this.#from = now()
    this.#keys = SCOPES.flatMap((scope) => keyOf(scope, identity) ?? []).map(copyOf)
    this.#changed(this)
  }

  /** Asking again and again whether its place is free is one wait. */
  enters (name: Phase): void {
    const [last, before] = [this.#phases.at(-1)?.name, this.#phases.at(-2)?.name]
    if (last === name) return
    if (name === 'waiting' && last === 'loading' && before === 'waiting') this.#phases.pop()
    else this.#phases.push({ name, from: this.#phases.length === 0 ? this.#from : now() })
    this.#changed(this)
  }

  retrying (): void {
    this.#retries++
    this.#changed(this)
  }

  published (kind: 'load' | 'save', _event: StateEvent, failure?: { error: unknown, saved: string[] }): void {
    if (failure !== undefined) {
      this.#saved = failure.saved
      this.#fails(failure.error)
    } else if (kind === 'save') this.#isSaved = true
  }

  edited (key: string, stored: Document | undefined, edit: Edit): void {
    this.#edits.set(key, editedMembers(stored, edit))
  }

  failed (cause: unknown): void {
    this.#fails(cause)
  }

  replaced (error: Error): void {
    this.#fails(error)
  }

  overlapped (): void {
    this.#isOverlapped = true
    this.#changed(this)
  }

  replayed (): void {
    this.#ends('replayed')
  }

  over (made: Iterable<{ key: string, stored: Document | undefined, edit: Edit }>): void {
    this.#to = now()
    this.#ends(this.#isSaved ? 'saved' : 'unchanged')
    if (this.#outcome === 'saved') this.#saved = [...this.#edits.keys()]
    else for (const { key, stored, edit } of made) if (!this.#edits.has(key)) this.edited(key, stored, edit)
    this.#documents = documentChanges(this.#edits)
    this.#edits.clear()
    this.#changed(this)
  }

  #fails (cause: unknown): void {
    const { code, message } = thrownBy(cause)
    this.#ends(code === 'FST_BOTAS_STATE_REPLACED' ? 'replaced' : 'failed', code, message)
  }

  /** What is told first counts. */
  #ends (outcome: Outcome, code?: string, message?: string): void {
    if (this.#outcome === 'open') {
      this.#outcome = outcome
      this.#code = code
      this.#message = message
    }
    this.#changed(this)
  }
}
