import type { Document, Edit } from '../document/document.js'
import { type MemberChange, memberChanges } from './member-changes.js'
import { shortened } from './shown-text.js'

/** What a turn made of one document. */
export interface DocumentChanges {
  key: string
  changes: MemberChange[]
  /** How many more there are than are kept. */
  leftOut: number
  /** Whether what was stored could not be read. */
  wasUnreadable: boolean
}

/** The texts of members that a turn has to do with, before and after; `undefined` where there is none. */
export interface EditedMembers {
  readonly texts: Array<[name: string, before: string | undefined, after: string | undefined]>
  readonly wasUnreadable: boolean
}

/** How much of what a turn changed is kept: texts and names, in characters, and changes of each document. */
const MAX_TEXTS = 50_000
const MAX_CHANGES = 200

/** Taken while an edit is applied: a storage may change its own object right after. */
export function editedMembers (stored: Document | undefined, edit: Edit): EditedMembers {
  try {
    return { texts: textsOf(stored, edit), wasUnreadable: false }
  } catch {
    return { texts: textsOf(undefined, edit), wasUnreadable: true }
  }
}

function textsOf (stored: Document | undefined, { clears, members }: Edit): EditedMembers['texts'] {
  const names = new Set([...clears ? stored?.names() ?? [] : [], ...members.keys()])
  return [...names].map((name) => [name, stored?.textOf(name), members.get(name)])
}

/** What a turn made of documents, as far as it is kept. Those of which it changed nothing are left out. */
export function documentChanges (edits: Iterable<[key: string, members: EditedMembers]>): DocumentChanges[] {
  let left = MAX_TEXTS
  const cut = (change: MemberChange): MemberChange => {
    left -= change.path.join().length
    for (const side of ['before', 'after'] as const) {
      const shown = change[side]
      if (shown === undefined) continue
      change[side] = { ...shortened(shown.text, Math.max(left, 0)), length: shown.length }
      left -= change[side].text.length
    }
    return change
  }
  const documents: DocumentChanges[] = []
  for (const [key, { texts, wasUnreadable }] of edits) {
    const changes = texts.flatMap((member) => memberChanges(...member))
    const kept: MemberChange[] = []
    for (const change of changes.slice(0, MAX_CHANGES)) if (left > 0) kept.push(cut(change))
    if (changes.length > 0 || wasUnreadable) documents.push({ key, changes: kept, leftOut: changes.length - kept.length, wasUnreadable })
  }
  return documents
}
