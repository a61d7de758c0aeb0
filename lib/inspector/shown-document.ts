import type { Document } from '../document/document.js'
import type { DocumentStore } from '../storage/document-store.js'
import { look } from '../storage/look.js'
import { type ShownText, shortened, shortenedName } from './shown-text.js'

/** A document as it is stored now. */
export interface ShownDocument {
  key: string
  /** Its members, as far as they are shown. */
  members: Array<ShownText & { name: string }>
  /** How many members are not shown. */
  leftOut: number
  /** Of its JSON, in bytes; left out where nothing is stored. */
  size?: number
  /** How long it is kept from now, in milliseconds; `null` for ever, left out where the storage does not tell. */
  timeLeft?: number | null
}

/** How much of a document is shown, in characters. */
const MAX_SHOWN = 1_000_000
/** How many members of it. */
const MAX_MEMBERS = 10_000
/** How long the storage may take, in milliseconds. */
const TIMEOUT = 5000

/**
 * Reads a document, and leaves it as it is: also how long it lives.
 *
 * @throws what the storage throws
 */
export async function shownDocument (store: DocumentStore, key: string): Promise<ShownDocument> {
  const [[document], timeLeft] = await look(TIMEOUT, (call) => Promise.all([
    store.load([key], call),
    // A storage may let a user read, and not ask that.
    store.timeLeft?.(key, call).catch(() => undefined)
  ]))
  if (document === undefined) return { key, members: [], leftOut: 0 }
  return { key, ...shownMembers(document), ...timeLeft !== undefined && { timeLeft: timeLeft === Infinity ? null : timeLeft } }
}

function shownMembers (document: Document): Pick<ShownDocument, 'members' | 'leftOut' | 'size'> {
  const members: ShownDocument['members'] = []
  let size = 1
  let left = MAX_SHOWN
  let leftOut = 0
  for (const name of document.names()) {
    const text = document.textOf(name) as string
    size += Buffer.byteLength(JSON.stringify(name)) + Buffer.byteLength(text) + 2
    if (left > 0 && members.length < MAX_MEMBERS) {
      members.push({ name: shortenedName(name), ...shortened(text, left) })
      left -= name.length + text.length
    } else leftOut++
  }
  return { members, leftOut, size: Math.max(size, 2) }
}
