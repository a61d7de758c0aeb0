import type { Document, Edit } from '../document/document.js'
import { type MemberChange, memberChanges } from './member-changes.js'
import { shortened } from './shown-text.js'

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

/** What a turn made of documents, as far as it is kept. Those of which it changed nothing are left out. */
export function documentChanges (edits: Iterable<{ key: string, stored: Document | undefined, edit: Edit }>): DocumentChanges[] {
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
  return [...edits].map(({ key, stored, edit }) => ({ key, changes: changesOf(stored, edit) })).filter(({ changes }) => changes.length > 0)
    .map(({ key, changes }) => ({ key, changes: changes.slice(0, MAX_CHANGES).map(cut), leftOut: Math.max(changes.length - MAX_CHANGES, 0) }))
}

/** Where a document cannot be read, what it becomes is all that is known. */
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
