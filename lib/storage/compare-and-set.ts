import { setTimeout as wait } from 'node:timers/promises'
import { TextDocument } from '../document/text-document.js'
import type { DocumentChange } from './document-store.js'
import type { StorageCall } from './storage.js'

/** The longest pause before another attempt, in milliseconds. */
const MAX_PAUSE = 20

/** What becomes of one document. */
export interface Save {
  readonly key: string
  /** what it was loaded as */
  readonly loaded: TextDocument | undefined
  readonly change: (stored: TextDocument | undefined) => TextDocument | undefined
  /** see `DocumentChange` */
  readonly forgets?: boolean
}

/** What turns make of documents. */
export function savesOf (changes: DocumentChange[]): Save[] {
  return changes.map(({ key, loaded, edit, forgets }) =>
    ({ key, loaded: loaded as TextDocument | undefined, change: (stored) => TextDocument.edited(stored, edit, key), forgets }))
}

/** The keys of the documents of which nothing is to be left. */
export function forgottenIn (saves: Save[]): string[] {
  return saves.filter(({ forgets }) => forgets).map(({ key }) => key)
}

/** A document as it is taken to be stored, and what it is to become. */
export interface Replacement<Stored> {
  readonly key: string
  readonly stored: Stored
  /** left out where the document goes */
  readonly next: TextDocument | undefined
}

/** How documents are compared and set in one step. `Stored` is a document as the storage knows it. */
export interface Comparing<Stored, Outcome> {
  documentOf(stored: Stored): TextDocument | undefined
  load(): Promise<Stored[]>
  /** @returns the outcome; or what is stored, where that is something else */
  set(replacements: Array<Replacement<Stored>>): Promise<{ outcome: Outcome } | { stored: Stored[] }>
}

/**
 * Saves documents in one step: all or none. Compares with what was loaded, and where something else is stored, again with that.
 * Goes on until it succeeds, a change throws,
 * or nobody waits any more.
 *
 * @param loaded in the order of the saves
 */
export async function compareAndSet<Stored, Outcome> (
  saves: Save[], loaded: Stored[], comparing: Comparing<Stored, Outcome>, call: StorageCall | undefined
): Promise<Outcome> {
  let current = loaded
  for (let attempt = 0; ; attempt++) {
    const replacements = replacementsOf(saves, current, comparing, attempt === 0)
    const result = replacements === undefined ? { stored: await comparing.load() } : await comparing.set(replacements)
    if ('outcome' in result) return result.outcome
    call?.retrying()
    await pauseAfterConflict(attempt, call)
    current = result.stored
  }
}

/**
 * Retry the first conflict at once, then wait, less with every attempt, so that a writer that keeps losing wins eventually.
 *
 * @throws where nobody waits any more
 */
export async function pauseAfterConflict (attempt: number, call: StorageCall | undefined): Promise<void> {
  if (attempt > 0) await wait(Math.random() * MAX_PAUSE / attempt)
  call?.signal.throwIfAborted()
}

/** @returns nothing where a change throws for a document that may have changed since it was loaded */
function replacementsOf<Stored> (
  saves: Save[], current: Stored[], { documentOf }: Comparing<Stored, unknown>, isStale: boolean
): Array<Replacement<Stored>> | undefined {
  try {
    return saves.map(({ key, change }, index) => {
      const stored = current[index] as Stored
      return { key, stored, next: change(documentOf(stored)) }
    })
  } catch (error) {
    // If a change throws for a stale document, read the current one and try again.
    if (!isStale) throw error
  }
}
