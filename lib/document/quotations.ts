import { isObject } from './describe-type.js'
import type { StateDocument } from './document.js'

/** So many letters of a word are a part of it where the message is about that value. */
const MIN_CUT = 3
/** So many letters tell whose they are, wherever they stand. */
const MIN_TELLING = 5
/** The same beyond ASCII: two signs may be a whole Chinese name. */
const MIN_TELLING_BEYOND_ASCII = 2

/** Letters, numbers and pictures. */
const WORDS = /[\p{L}\p{M}\p{N}\p{So}]+/gu
/** The same, cut where figures begin and end: `87kg` has an 87. */
const RUNS = /\p{N}+|[\p{L}\p{M}\p{So}]+/gu
// eslint-disable-next-line no-control-regex
const BEYOND_ASCII = /[^\x00-\x7f]/
/** Between values; where one has it within, it counts as two. */
const SEPARATOR = '\0'

/** A message, as it is compared. */
interface Reading {
  /** folded */
  readonly text: string
  /** its letters, without what is between its words */
  readonly letters: string
}

/** What can be quoted of a document. Its words are found once, when a text is first compared. */
export class Quotations {
  readonly #document: StateDocument
  #telling: TellingParts | undefined
  /** the folded text of values, for several issues may be about the same one */
  readonly #texts = new Map<unknown, string>()

  constructor (document: StateDocument) {
    this.#document = document
  }

  /**
   * Whether a text may have a part of the value that it is about; or all, the beginning, the end, or a longer word of another value.
   *
   * @param value in the document, or the document itself
   */
  areIn (text: string, value: unknown): boolean {
    this.#telling ??= new TellingParts(foldedTextIn(this.#document, this.#document, false))
    const telling = this.#telling
    return readingsOf(text).some((reading) => hasPartOf(this.#textOf(value), reading) || telling.areIn(reading))
  }

  #textOf (value: unknown): string {
    const text = this.#texts.get(value) ?? foldedTextIn(value, this.#document, true)
    this.#texts.set(value, text)
    return text
  }
}

/** What tells a value of a document though the message is about another one. */
class TellingParts {
  /** that tell it wherever they stand, by their length */
  readonly #anywhere = new Map<number, Set<string>>()
  /** values so short that other words have them within by chance */
  readonly #short = new Set<string>()
  /** values without a word */
  readonly #signs = new Set<string>()

  /** @param text of the document, folded */
  constructor (text: string) {
    for (const value of new Set(text.split(SEPARATOR))) this.#add(value)
  }

  areIn ({ text, letters }: Reading): boolean {
    return [...this.#anywhere].some(([length, parts]) => hasOneOf(letters, length, parts)) || this.#hasShort(text) ||
      [...this.#signs].some((signs) => text.includes(signs))
  }

  #add (value: string): void {
    const words = value.match(WORDS)
    if (words === null) {
      if (value.trim() !== '') this.#signs.add(value.trim())
      return
    }
    const letters = words.length === 1 ? words[0] as string : words.join('')
    if (letters.length < MIN_TELLING) {
      if (BEYOND_ASCII.test(letters)) this.#addAnywhere(letters)
      else this.#short.add(letters)
      return
    }
    this.#addAnywhere(letters.slice(0, MIN_TELLING))
    this.#addAnywhere(letters.slice(-MIN_TELLING))
    // The only one has been added, by its beginning.
    if (words.length > 1) for (const word of words) if (isTelling(word)) this.#addAnywhere(word)
  }

  #addAnywhere (part: string): void {
    const parts = this.#anywhere.get(part.length)
    if (parts === undefined) this.#anywhere.set(part.length, new Set([part]))
    else parts.add(part)
  }

  #hasShort (text: string): boolean {
    if (this.#short.size === 0) return false
    const runs = text.match(RUNS) ?? []
    return runs.some((_run, from) => {
      for (let to = from + 1; to < from + MIN_TELLING; to++) if (this.#short.has(runs.slice(from, to).join(''))) return true
      return false
    })
  }
}

function hasOneOf (letters: string, length: number, parts: Set<string>): boolean {
  for (let from = 0; from + length <= letters.length; from++) if (parts.has(letters.slice(from, from + length))) return true
  return false
}

function isTelling (word: string): boolean {
  return word.length >= MIN_TELLING || (word.length >= MIN_TELLING_BEYOND_ASCII && BEYOND_ASCII.test(word))
}

/** Whether a message has a word of its value, or the beginning or end of one; or a longer piece out of the middle. */
function hasPartOf (value: string, { text, letters }: Reading): boolean {
  for (const [word] of value.matchAll(WORDS)) {
    if (letters.includes(word.slice(0, MIN_CUT)) || letters.includes(word.slice(-MIN_CUT))) return true
  }
  return text.match(WORDS)?.some((word) => word.length >= MIN_TELLING && value.includes(word)) === true
}

/** A message as it is, and with what URLs in it escape, be it more than once. */
function readingsOf (message: string): Reading[] {
  const texts = [message]
  for (const text of texts) {
    const plain = text.replace(/(?:%[\da-f]{2})+/gi, (escaped) => Buffer.from(escaped.replaceAll('%', ''), 'hex').toString())
    if (plain !== text) texts.push(plain)
  }
  return texts.map(folded).map((text) => ({ text, letters: lettersOf(text) }))
}

function lettersOf (text: string): string {
  return text.match(WORDS)?.join('') ?? ''
}

/** One text for all ways to write it: `STRASSE` is the upper case of `straße`, `İ` is that of `i` in Turkish, `Σ` that of `ς` and of `σ`. */
function folded (text: string): string {
  return text.normalize('NFKC').toUpperCase().toLowerCase().replaceAll('ς', 'σ').replaceAll('i\u0307', 'i')
}

/** Whether a name is one that code would give, and not a value: a telephone number, an address. */
export function isIdentifier (name: string): boolean {
  return /^[A-Za-z_$][\w$-]*$/.test(name)
}

/**
 * The texts and numbers in a value; and names that are none of code's, but for those of the document's own members, which are no secret.
 *
 * @param withBooleans which say nothing of anybody where a message is about something else
 */
function foldedTextIn (value: unknown, document: StateDocument, withBooleans: boolean): string {
  const leaves: string[] = []
  // No recursion: it may be nested deeper than that could go.
  const rest = [value]
  while (rest.length > 0) {
    const next = rest.pop()
    if (typeof next === 'string') leaves.push(next)
    else if (typeof next === 'number' || (withBooleans && typeof next === 'boolean')) leaves.push(String(next))
    else if (Array.isArray(next)) for (const item of next) rest.push(item)
    else if (isObject(next)) {
      for (const [name, member] of Object.entries(next)) {
        if (next !== document && !isIdentifier(name)) leaves.push(name)
        rest.push(member)
      }
    }
  }
  return folded(leaves.join(SEPARATOR))
}
