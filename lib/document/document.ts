import { FST_BOTAS_STATE_CORRUPT_DOCUMENT } from '../errors.js'
import { describeType, isObject } from './describe-type.js'
import { setMember } from './json-value.js'

/** What is stored under one key: a JSON object, from the name of a member to its value. */
export type StateDocument = Record<string, unknown>

/**
 * From a stored document to what it becomes; `undefined` stands for no document. A storage may call it more than once.
 */
export type ChangeDocument = (current: StateDocument | undefined) => StateDocument | undefined

/** A document that a turn was loaded with. Immutable. Every method throws where it cannot be used: FST_BOTAS_STATE_CORRUPT_DOCUMENT, for instance. */
export interface Document {
  names(): Iterable<string>
  has(name: string): boolean
  /** The JSON text of a member, `undefined` where there is none. */
  textOf(name: string): string | undefined
  /** A new value of a member, `undefined` where there is none. */
  valueOf(name: string): unknown
}

/** What a turn makes of a document. */
export interface Edit {
  /** Whether members not listed here are removed. */
  readonly clears: boolean
  /** The JSON text of each member that changes, by its name; `undefined` removes it. */
  readonly members: ReadonlyMap<string, string | undefined>
}

/** From a stored document to what a turn makes of it. A storage may call it more than once. */
export type EditDocument = (current: Document | undefined) => Edit

/** All of a document, as a new object. */
export function objectOf (document: Document): StateDocument {
  const object: StateDocument = {}
  for (const name of document.names()) setMember(object, name, document.valueOf(name))
  return object
}

/**
 * @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where `value` is anything but an object
 */
export function assertDocument (value: unknown, key: string): asserts value is StateDocument {
  if (!isObject(value)) throw notAnObject(value, key)
}

export function notAnObject (value: unknown, key: string): Error {
  return new FST_BOTAS_STATE_CORRUPT_DOCUMENT(key, `${describeType(value)}, not a JSON object`)
}

/**
 * The value of a member, by its JSON text.
 *
 * @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT
 */
export function parsedMember (text: string, key: string, name: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // The parser's own message quotes the text, which is private.
    throw new FST_BOTAS_STATE_CORRUPT_DOCUMENT(key, `not valid JSON in its member "${name}"`)
  }
}
