import { types } from 'node:util'
import { FST_BOTAS_STATE_CORRUPT_DOCUMENT, FST_BOTAS_STATE_NOT_SERIALIZABLE, kindOf } from './errors.js'

/** What is stored under one key: a JSON object, from the key of a value to the value. */
export type StateDocument = Record<string, unknown>

/** From a stored document to what it becomes; `undefined` stands for no document. */
export type ChangeDocument = (current: StateDocument | undefined) => StateDocument | undefined

/** A document as it came out of a storage: the text, and what it says. */
export interface StoredDocument {
  text: string
  document: StateDocument
}

/**
 * The document that a stored text holds.
 *
 * @param key names the document in the error
 * @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where the text is no JSON object. The parser's own message is not passed on:
 *   it quotes the text, and the text is private.
 */
export function parseDocument (text: string, key: string): StateDocument {
  let value: unknown
  try {
    value = JSON.parse(withoutByteOrderMark(text))
  } catch {
    throw new FST_BOTAS_STATE_CORRUPT_DOCUMENT(key, `no complete JSON (${text.length} characters)`)
  }
  assertDocument(value, key)
  return value
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
  if (stored === undefined || JSON.stringify(stored.document) === stored.text) {
    return encodeValue(document, place) as string
  }
  const texts = memberTexts(withoutByteOrderMark(stored.text))
  const members: string[] = []
  for (const [name, value] of Object.entries(document)) {
    const text = encodeValue(value, place)
    if (text === undefined) continue
    const before = texts.get(name)
    const unchanged = before !== undefined && text === JSON.stringify(JSON.parse(before))
    members.push(`${JSON.stringify(name)}:${unchanged ? before : text}`)
  }
  return `{${members.join(',')}}`
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

/** Sets an own member whatever its name is: a plain assignment to `__proto__` would not. */
export function setMember (document: StateDocument, name: string, value: unknown): void {
  Object.defineProperty(document, name, { value, enumerable: true, configurable: true, writable: true })
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
  if (types.isDate(value) && Number.isNaN(value.getTime())) return 'an invalid Date'
}

const JSON_TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/g

/** The text of each member of a JSON object, as it stands there. The text is known to be valid JSON. */
function memberTexts (text: string): Map<string, string> {
  const texts = new Map<string, string>()
  let depth = 0
  let name = ''
  let start: number | undefined
  for (const { 0: token, index } of text.matchAll(JSON_TOKENS)) {
    if (token === '}' || token === ']') depth--
    if (start !== undefined && (depth === 0 || (depth === 1 && token === ','))) {
      texts.set(JSON.parse(name), text.slice(start, index).trim())
      start = undefined
    } else if (start === undefined && depth === 1) {
      if (token === ':') start = index + 1
      else name = token
    }
    if (token === '{' || token === '[') depth++
  }
  return texts
}
