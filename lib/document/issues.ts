import type { StandardSchemaV1 } from '@standard-schema/spec'
import { isObject } from './describe-type.js'
import type { StateDocument } from './document.js'

/** How many issues an error names. */
const MAX_ISSUES = 5
/** How long a path or a message may be. */
const MAX_LENGTH = 200

/**
 * What an error says of the issues of a schema: their paths, and what the schema says of each, unless that may quote a value.
 *
 * @param document that was checked
 */
export function describeIssues (issues: readonly StandardSchemaV1.Issue[], document: StateDocument): string {
  const told = issues.slice(0, MAX_ISSUES).map((issue) => describeIssue(issue, document))
  const more = issues.length - told.length
  return told.join('; ') + (more > 0 ? `; and ${more} more` : '')
}

function describeIssue ({ path = [], message }: StandardSchemaV1.Issue, document: StateDocument): string {
  const keys = path.map((segment) => typeof segment === 'object' ? segment.key : segment)
  const place = keys.length === 0 ? 'the document' : shortened(keys.map(describeKey).join('.'))
  return typeof message !== 'string' || quotes(message, valueAt(document, keys), document) ? `${place} does not fit` : `${place}: ${shortened(message)}`
}

function describeKey (key: PropertyKey): string {
  const text = String(key)
  return /^[\w$-]+$/.test(text) ? text : JSON.stringify(text)
}

function shortened (text: string): string {
  return text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH)}…` : text
}

function valueAt (document: StateDocument, keys: PropertyKey[]): unknown {
  return keys.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown> | null | undefined)?.[key], document)
}

/** Whether a message may have a part of the value that it is about, or all, the beginning or the end of another value. */
function quotes (message: string, value: unknown, document: StateDocument): boolean {
  const words = wordsOf(message)
  if (leavesOf(value).flatMap(wordsOf).some((quoted) => words.some((word) => isAlike(word, quoted)))) return true
  const text = ` ${words.join(' ')} `
  const letters = words.join('')
  return leavesOf(document).some((leaf) => {
    const quoted = wordsOf(leaf)
    if (quoted.length === 0) return leaf !== '' && message.includes(leaf)
    const all = quoted.join('')
    return text.includes(` ${quoted.join(' ')} `) || isIn(all.slice(0, CUT), letters) || isIn(all.slice(-CUT), letters)
  })
}

/** Shorter texts are in many words by chance. */
const MIN_PART = 3
/** How much of a beginning or an end tells whose it is. */
const CUT = 5

/** Messages may cut what they quote, at either end. */
function isAlike (word: string, quoted: string): boolean {
  return word === quoted || isIn(word, quoted) || isIn(quoted, word)
}

function isIn (part: string, letters: string): boolean {
  return part.length >= MIN_PART && letters.includes(part)
}

/** Letters, numbers and pictures, however they are written: `STRASSE` is the upper case of `straße`. */
function wordsOf (text: string): string[] {
  return text.normalize('NFKC').toUpperCase().toLowerCase().match(/[\p{L}\p{M}\p{N}\p{So}]+/gu) ?? []
}

/** The texts and numbers in a value, but for `true`, `false` and `null`, which say nothing of anybody. */
function leavesOf (value: unknown): string[] {
  if (typeof value === 'string' || typeof value === 'number') return [String(value)]
  if (Array.isArray(value)) return value.flatMap(leavesOf)
  return isObject(value) ? Object.values(value).flatMap(leavesOf) : []
}
