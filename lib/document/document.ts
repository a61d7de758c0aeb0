import { FST_BOTAS_STATE_CORRUPT_DOCUMENT, FST_BOTAS_STATE_NOT_SERIALIZABLE } from '../errors.js'
import { encodeValue, hasPlainPrototype, placeOf } from './json-value.js'
import { isObject, describeType } from './describe-type.js'
import { memberTexts } from './member-texts.js'

/** What is stored under one key: a JSON object, from the key of a value to the value. */
export type StateDocument = Record<string, unknown>

/**
 * From a stored document to what it becomes; `undefined` stands for no document. It changes nothing that it is given, and
 * a storage may call it more than once.
 */
export type ChangeDocument = (current: StateDocument | undefined) => StateDocument | undefined

/** A document that a turn was loaded with. Who is given it leaves it as it is. */
export interface LoadedDocument {
  readonly document: StateDocument
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
    throw incomplete(text.length, key)
  }
  assertDocument(value, key)
  return value
}

export function incomplete (length: number, key: string): Error {
  return new FST_BOTAS_STATE_CORRUPT_DOCUMENT(key, `no complete JSON object (its length is ${length})`)
}

/** What was found under some keys, as the method `read` of a storage gives it. */
export function documentsOf (keys: string[], found: Array<LoadedDocument | undefined>): Record<string, StateDocument> {
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
  if (!isObject(value)) {
    throw new FST_BOTAS_STATE_CORRUPT_DOCUMENT(key, `${describeType(value)}, not a JSON object`)
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
export function encodeDocument (document: unknown, key: string, stored?: { text: string, document: StateDocument }): string {
  if (!isObject(document)) {
    throw new FST_BOTAS_STATE_NOT_SERIALIZABLE(placeOf(key), `${describeType(document)} in place of an object`)
  }
  if (stored === undefined || !hasPlainPrototype(document) || textOf(stored.document) === stored.text) {
    const text = encodeValue(document, key)
    if (text?.startsWith('{') !== true) throw new FST_BOTAS_STATE_NOT_SERIALIZABLE(placeOf(key), 'what is no object in JSON')
    return text
  }
  const texts = memberTexts(withoutByteOrderMark(stored.text))
  const members: string[] = []
  for (const [name, value] of Object.entries(document)) {
    const before = texts.get(name)
    const unchanged = value === stored.document[name] && before !== undefined && says(before, value)
    const text = unchanged ? before : encodeValue(value, key)
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
 * A document as it would come back from where it is stored as text.
 *
 * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE
 */
export function copyDocument (document: unknown, key: string): StateDocument {
  return JSON.parse(encodeDocument(document, key))
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

/** A value as JavaScript would write it without further questions; nothing where it cannot, which is no error here. */
function textOf (value: unknown): string | undefined {
  try {
    return JSON.stringify(value)
  } catch {}
}

function withoutByteOrderMark (text: string): string {
  return text.charCodeAt(0) === 0xFEFF ? text.slice(1) : text
}
