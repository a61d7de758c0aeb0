import { isObject } from './describe-type.js'
import type { StateDocument } from './document.js'

/** Shorter texts are in many words by chance. */
const MIN_PART = 3
/** So many letters tell whose they are. */
const MIN_TELLING = 5

/**
 * Whether a message may have a part of the value that it is about; or all, the beginning, the end, or a longer word of another value.
 *
 * @param value in the document, or the document itself
 */
export function quotes (message: string, value: unknown, document: StateDocument): boolean {
  const words = wordsOf(message)
  if (leavesOf(value, value === document).flatMap(wordsOf).some((quoted) => words.some((word) => isAlike(word, quoted)))) return true
  return leavesOf(document, true).some((leaf) => quotesLeaf(message, words, leaf))
}

function quotesLeaf (message: string, words: string[], leaf: string): boolean {
  const quoted = wordsOf(leaf)
  if (quoted.length === 0) return leaf !== '' && message.includes(leaf)
  const all = quoted.join('')
  const letters = words.join('')
  return ` ${words.join(' ')} `.includes(` ${quoted.join(' ')} `) ||
    isIn(all.slice(0, MIN_TELLING), letters) || isIn(all.slice(-MIN_TELLING), letters) ||
    quoted.some((word) => word.length >= MIN_TELLING && words.includes(word))
}

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

/** Whether a name is one that code would give, and not a value: a telephone number, an address. */
export function isIdentifier (name: string): boolean {
  return /^[A-Za-z_$][\w$-]*$/.test(name)
}

/**
 * The texts and numbers in a value, but for `true`, `false` and `null`, which say nothing of anybody; and names that are none of code's.
 *
 * @param isDocument whether its names are those of members, which are no secret
 */
function leavesOf (value: unknown, isDocument = false): string[] {
  if (typeof value === 'string' || typeof value === 'number') return [String(value)]
  if (Array.isArray(value)) return value.flatMap((item) => leavesOf(item))
  if (!isObject(value)) return []
  const names = isDocument ? [] : Object.keys(value).filter((name) => !isIdentifier(name))
  return [...names, ...Object.values(value).flatMap((member) => leavesOf(member))]
}
