import type { Document, Edit } from '../document/document.js'
import { type TurnIdentity, keyOf } from '../turn/identity.js'
import type { StateEvent } from '../turn/telemetry.js'
import { SCOPES } from '../turn/turn-documents.js'
import type { Phase, TurnWatch } from '../turn/turn-watch.js'
import { type MemberChange, memberChanges } from './member-changes.js'
import { shortened, shortenedName } from './shown-text.js'

/** What became of a turn: `unchanged` succeeded, and had nothing to save. */
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
  /** How often the storage had to load or save again. */
  retries: number
  /** Whether it lost its place, and was merged with a turn that came between. */
  isOverlapped: boolean
  /** How many values it changed. */
  changeCount: number
}

/** What a turn made of one document. */
export interface DocumentChanges {
  key: string
  changes: MemberChange[]
  /** How many more there are than are kept. */
  leftOut: number
}

/** How much of what a turn changed is kept: texts, in characters, and changes of each document. */
const MAX_TEXTS = 50_000
const MAX_CHANGES = 200

/** Notes one turn as it goes. */
export class InspectedTurn implements TurnWatch {
  readonly id: number
  /** which of all that happened was the last that is about it */
  revision = 0
  /** what was thrown, as far as it says so */
  message: string | undefined
  documents: DocumentChanges[] = []
  readonly #via: TurnSummary['via']
  readonly #changed: (turn: InspectedTurn) => void
  #identity: TurnIdentity | undefined
  #keys: string[] = []
  #from = 0
  #phases: TurnSummary['phases'] = []
  #to: number | undefined
  #outcome: Outcome = 'open'
  #code: string | undefined
  #retries = 0
  #isOverlapped = false
  #isSaved = false
  /** until the turn is over */
  #edits = new Map<string, { stored: Document | undefined, edit: Edit }>()

  /** @param changed is called whenever there is news */
  constructor (id: number, via: TurnSummary['via'], changed: (turn: InspectedTurn) => void) {
    this.id = id
    this.#via = via
    this.#changed = changed
  }

  get keys (): string[] {
    return this.#keys
  }

  get identity (): TurnIdentity | undefined {
    return this.#identity
  }

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
      retries: this.#retries,
      isOverlapped: this.#isOverlapped,
      changeCount: this.documents.reduce((sum, { changes, leftOut }) => sum + changes.length + leftOut, 0)
    }
  }

  identified (identity: TurnIdentity): void {
    this.#identity = identity
    this.#from = now()
    this.#keys = SCOPES.flatMap((scope) => keyOf(scope, identity) ?? [])
    this.#changed(this)
  }

  /** Where it asks again and again whether its wait is over, that is one wait. */
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

  published (kind: 'load' | 'save', { outcome, code }: StateEvent): void {
    if (outcome === 'failure') this.#code ??= code
    this.#isSaved ||= kind === 'save' && outcome === 'success'
    if (kind === 'save' && outcome === 'failure') this.#ends('failed')
  }

  edited (key: string, stored: Document | undefined, edit: Edit): void {
    this.#edits.set(key, { stored, edit })
  }

  failed (cause: unknown): void {
    const { code, message } = errorOf(cause)
    this.#code ??= code
    this.message ??= message
    this.#ends('failed')
  }

  replaced ({ message }: Error): void {
    this.#code = 'FST_BOTAS_STATE_REPLACED'
    this.message = message
    this.#outcome = 'replaced'
    this.#changed(this)
  }

  overlapped (): void {
    this.#isOverlapped = true
    this.#changed(this)
  }

  replayed (): void {
    this.#ends('replayed')
  }

  over (): void {
    this.#to = now()
    this.#ends(this.#isSaved ? 'saved' : 'unchanged')
    if (this.#outcome === 'saved') this.#noteChanges()
    this.#edits.clear()
    this.#changed(this)
  }

  /** What is told first counts. */
  #ends (outcome: Outcome): void {
    if (this.#outcome === 'open') this.#outcome = outcome
    this.#changed(this)
  }

  #noteChanges (): void {
    let left = MAX_TEXTS
    const cut = (change: MemberChange): MemberChange => {
      for (const side of ['before', 'after'] as const) {
        const shown = change[side]
        if (shown === undefined) continue
        change[side] = { ...shortened(shown.text, left), length: shown.length }
        left -= change[side].text.length
      }
      return change
    }
    for (const [key, { stored, edit }] of this.#edits) {
      const changes = changesOf(stored, edit)
      if (changes.length === 0) continue
      this.documents.push({ key, changes: changes.slice(0, MAX_CHANGES).map(cut), leftOut: Math.max(changes.length - MAX_CHANGES, 0) })
    }
  }
}

/** Of a document that cannot be read nothing is known but what it becomes. */
function changesOf (stored: Document | undefined, edit: Edit): MemberChange[] {
  try {
    return changesFrom(stored, edit)
  } catch {
    return changesFrom(undefined, edit)
  }
}

function changesFrom (stored: Document | undefined, { clears, members }: Edit): MemberChange[] {
  const names = new Set([...clears ? stored?.names() ?? [] : [], ...members.keys()])
  return [...names].flatMap((name) => memberChanges(name, stored?.textOf(name), members.get(name)))
}

/** What a handler throws may be anything, and have getters that throw. */
function errorOf (cause: unknown): { code: string, message: string | undefined } {
  try {
    const { code, name, message } = Object(cause) as { code?: unknown, name?: unknown, message?: unknown }
    const known = [code, name].find((text) => typeof text === 'string' && text !== '') as string | undefined
    return { code: shortenedName(known ?? 'failed'), message: typeof message === 'string' ? shortened(message, 1000).text : undefined }
  } catch {
    return { code: 'failed', message: undefined }
  }
}

/** In milliseconds since 1970. It goes on evenly, so that what came first is told to have come first. */
export function now (): number {
  return performance.timeOrigin + performance.now()
}
