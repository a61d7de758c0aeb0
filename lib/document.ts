import { types } from 'node:util'
import { FST_BOTAS_STATE_CORRUPT_DOCUMENT, FST_BOTAS_STATE_NOT_SERIALIZABLE, kindOf } from './errors.js'

/** What is stored under one key: a JSON object, from the key of a value to the value. */
export type StateDocument = Record<string, unknown>

/** From a stored document to what it becomes; `undefined` stands for no document. */
export type ChangeDocument = (current: StateDocument | undefined) => StateDocument | undefined

/** Longer texts, in characters, are parsed when somebody wants to know what they say. */
const EAGERLY_PARSED = 32_768

/** A document as it came out of a storage: the text, and what it says. */
export class StoredDocument {
  readonly text: string
  readonly #key: string
  #document: StateDocument | undefined

  /** @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where the text is no JSON object, as far as can be told without parsing a long one */
  constructor (text: string, key: string) {
    this.text = text
    this.#key = key
    if (text.length <= EAGERLY_PARSED) this.#document = parseDocument(text, key)
    else if (!/^\uFEFF?\s*\{/.test(text) || !/\}\s*$/.test(text.slice(-100))) throw incomplete(text, key)
  }

  /** Whether it is known to be an object. */
  get isParsed (): boolean {
    return this.#document !== undefined
  }

  /** @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where a long text is no JSON object */
  get document (): StateDocument {
    this.#document ??= parseDocument(this.text, this.#key)
    return this.#document
  }
}

/**
 * The document that a stored text holds.
 *
 * @param key names the document in the error
 * @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where the text is no JSON object. The parser's own message is not passed on:
 *   it quotes the text, and the text is private.
 */
function parseDocument (text: string, key: string): StateDocument {
  let value: unknown
  try {
    value = JSON.parse(withoutByteOrderMark(text))
  } catch {
    throw incomplete(text, key)
  }
  assertDocument(value, key)
  return value
}

function incomplete (text: string, key: string): Error {
  return new FST_BOTAS_STATE_CORRUPT_DOCUMENT(key, `no complete JSON object (${text.length} characters)`)
}

/** What was found under some keys, as the method `read` of a storage gives it. */
export function documentsOf (keys: string[], found: Array<StoredDocument | undefined>): Record<string, StateDocument> {
  const documents: Record<string, StateDocument> = {}
  for (const [index, key] of keys.entries()) {
    const stored = found[index]
    if (stored !== undefined) setMember(documents, key, stored.document)
  }
  return documents
}

/**
 * @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where `value` is anything but an object
 */
export function assertDocument (value: unknown, key: string): asserts value is StateDocument {
  if (!isDocument(value)) {
    throw new FST_BOTAS_STATE_CORRUPT_DOCUMENT(key, `${kindOf(value)}, not a JSON object`)
  }
}

/**
 * The JSON text of a document.
 *
 * @param key names the document in the error
 * @param stored what the document was made from. Members that did not change keep its very text, for what JavaScript
 *   reads as equal need not be so elsewhere: 1.0 is a float to Python, 9007199254740993 a long to .NET.
 * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE where it is no object or holds a value that JSON cannot
 */
export function encodeDocument (document: unknown, key: string, stored?: StoredDocument): string {
  const place = `the document "${key}"`
  if (!isDocument(document)) throw new FST_BOTAS_STATE_NOT_SERIALIZABLE(place, `${kindOf(document)} in place of an object`)
  if (stored === undefined || textOf(stored.document) === stored.text) {
    return encodeValue(document, place) as string
  }
  const texts = memberTexts(withoutByteOrderMark(stored.text))
  const members: string[] = []
  for (const [name, value] of Object.entries(document)) {
    const before = texts.get(name)
    const unchanged = value === stored.document[name] && before !== undefined && says(before, value)
    const text = unchanged ? before : encodeValue(value, place)
    if (text !== undefined) members.push(`${JSON.stringify(name)}:${text}`)
  }
  return `{${members.join(',')}}`
}

/**
 * The JSON texts of several documents, by key.
 *
 * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE before any text is given
 */
export function encodeDocuments (documents: Record<string, unknown>): Array<[key: string, text: string]> {
  return Object.entries(documents).map(([key, document]) => [key, encodeDocument(document, key)])
}

/**
 * The JSON text of a value, `undefined` for `undefined`. Dates become ISO 8601 strings, binary becomes Base64.
 *
 * @param place names the value in the error, which says nothing of its content
 * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE where JSON would lose it or cannot hold it
 */
export function encodeValue (value: unknown, place: string): string | undefined {
  let refused: string | undefined
  try {
    if (isPlain(value, 0)) return JSON.stringify(value)
    return JSON.stringify(value, function (this: Record<string, unknown>, name, member) {
      // What toJSON made of it does not tell a Buffer or an invalid date.
      const original = this[name]
      if (isBinary(original)) return base64(original)
      refused = refusal(original) ?? refusal(member)
      if (refused !== undefined) throw new TypeError(refused)
      return member
    })
  } catch (error) {
    const cycle = error instanceof TypeError && error.message.includes('circular')
    throw new FST_BOTAS_STATE_NOT_SERIALIZABLE(place, refused ??
      (cycle ? 'a cycle' : error instanceof RangeError ? 'too deep a nesting' : 'an object that fails to turn into JSON'))
  }
}

/** How deep `isPlain` looks; a cycle ends there as well. */
const MAX_PLAIN_DEPTH = 100

/** Whether a value is what `JSON.parse` gives, of which JSON.stringify loses nothing: it is much faster unobserved. */
function isPlain (value: unknown, depth: number): boolean {
  switch (typeof value) {
    case 'string':
    case 'boolean':
    case 'undefined': return true
    case 'number': return Number.isFinite(value)
    case 'object': return value === null || (depth < MAX_PLAIN_DEPTH && isPlainObject(value, depth))
    default: return false
  }
}

function isPlainObject (value: object, depth: number): boolean {
  const prototype = Object.getPrototypeOf(value)
  if (prototype === Array.prototype) {
    for (const item of value as unknown[]) if (!isPlain(item, depth + 1)) return false
  } else if (prototype !== Object.prototype) return false
  else {
    for (const name in value) if (!isPlain((value as Record<string, unknown>)[name], depth + 1)) return false
  }
  return !('toJSON' in value)
}

/** Sets an own member whatever its name is: a plain assignment to `__proto__` would not. */
export function setMember (document: StateDocument, name: string, value: unknown): void {
  if (name !== '__proto__') document[name] = value
  else Object.defineProperty(document, name, { value, enumerable: true, configurable: true, writable: true })
}

/** Whether a JSON text says the same as a value, which may have been changed in place since it was parsed from it. */
function says (text: string, value: unknown): boolean {
  return textOf(value) === JSON.stringify(JSON.parse(text))
}

/** A value as JavaScript would write it without further questions; nothing where it cannot. */
function textOf (value: unknown): string | undefined {
  try {
    return JSON.stringify(value)
  } catch {}
}

function isDocument (value: unknown): value is StateDocument {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function withoutByteOrderMark (text: string): string {
  return text.charCodeAt(0) === 0xFEFF ? text.slice(1) : text
}

function isBinary (value: unknown): value is ArrayBufferView | ArrayBufferLike {
  return ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value)
}

function base64 (value: ArrayBufferView | ArrayBufferLike): string {
  const bytes = ArrayBuffer.isView(value)
    ? Buffer.from(value.buffer, value.byteOffset, value.byteLength)
    : Buffer.from(value)
  return bytes.toString('base64')
}

/** Why JSON cannot hold a value; JSON.stringify itself would drop most of these without a word. */
function refusal (value: unknown): string | undefined {
  switch (typeof value) {
    case 'bigint': return 'a BigInt'
    case 'function': return 'a function'
    case 'symbol': return 'a symbol'
    case 'number': return Number.isFinite(value) ? undefined : `the number ${value}`
    case 'object': return value === null ? undefined : refusalOfObject(value)
  }
}

function refusalOfObject (value: object): string | undefined {
  const prototype = Object.getPrototypeOf(value)
  if (prototype === Object.prototype || prototype === Array.prototype) return undefined
  if (types.isMap(value)) return 'a Map'
  if (types.isSet(value)) return 'a Set'
  if (types.isPromise(value)) return 'a Promise (is an await missing?)'
  if (types.isWeakMap(value) || types.isWeakSet(value)) return 'a weak collection'
  if (types.isRegExp(value)) return 'a RegExp'
  if (types.isNativeError(value)) return 'an Error'
  if (types.isDate(value) && Number.isNaN(value.getTime())) return 'an invalid Date'
}

const PUNCTUATION = /["{}[\],:]/g

/** The text of each member of a JSON object, as it stands there. The text is known to be valid JSON. */
function memberTexts (text: string): Map<string, string> {
  const texts = new Map<string, string>()
  let depth = 0
  let name = ''
  let start: number | undefined
  for (let at = nextPunctuation(text, 0); at < text.length; at = nextPunctuation(text, at + 1)) {
    const mark = text[at] as string
    if (mark === '}' || mark === ']') depth--
    if (mark === '"') {
      const end = endOfString(text, at)
      if (start === undefined) name = text.slice(at, end + 1)
      at = end
    } else if (start !== undefined && (depth === 0 || (depth === 1 && mark === ','))) {
      texts.set(JSON.parse(name), text.slice(start, at).trim())
      start = undefined
    } else if (start === undefined && mark === ':') {
      start = at + 1
    }
    if (mark === '{' || mark === '[') depth++
  }
  return texts
}

function nextPunctuation (text: string, from: number): number {
  PUNCTUATION.lastIndex = from
  return PUNCTUATION.exec(text)?.index ?? text.length
}

/** The closing quote of a string: the first one that an even number of backslashes precedes. */
function endOfString (text: string, start: number): number {
  let end = start
  let backslashes: number
  do {
    end = text.indexOf('"', end + 1)
    backslashes = 0
    while (text[end - 1 - backslashes] === '\\') backslashes++
  } while (backslashes % 2 === 1)
  return end
}
