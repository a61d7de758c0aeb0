import { isUtf8 } from 'node:buffer'
import { FST_BOTAS_STATE_CORRUPT_DOCUMENT, FST_BOTAS_STATE_NOT_SERIALIZABLE } from '../errors.js'
import { describeType, isObject } from './describe-type.js'
import { type ChangeDocument, type Document, type EditDocument, type StateDocument, notAnObject, parsedMember } from './document.js'
import { encodeValue, hasPlainPrototype, placeOf, setMember } from './json-value.js'
import { type MemberText, memberTexts } from './member-texts.js'
import { isAs, snapshotOfStored } from './snapshot.js'

/** The JSON text of a member: as it was made here, or where it stands in what came out of a storage. */
type Text = string | MemberText

/**
 * A document as the JSON texts of its members. Immutable, so it can be shared. What came out of a storage is looked
 * at when it is first asked for; a member is decoded and parsed when that is asked for, and otherwise copied as it is.
 */
export class TextDocument implements Document {
  readonly #key: string
  /** as it is stored; an error where it could not even be read; left out where it was made here, of members */
  readonly #content: Buffer | Error | undefined
  /** by which its storage tells it from what is stored later, if it does */
  readonly version: unknown
  #members: ReadonlyMap<string, Text> | undefined

  private constructor (key: string, content: Buffer | Error | undefined, members?: ReadonlyMap<string, Text>, version?: unknown) {
    this.#key = key
    this.#content = content
    this.#members = members
    this.version = version
  }

  /**
   * A document as it is stored.
   *
   * @param content a JSON object, in UTF-8; or the FST_BOTAS_STATE_CORRUPT_DOCUMENT that says why there is none
   * @param key names the document in errors
   * @param version by which the storage tells it from what is stored later
   */
  static stored (content: Buffer | Error, key: string, version?: unknown): TextDocument {
    return new TextDocument(key, content, undefined, version)
  }

  /**
   * Encodes an object.
   *
   * @param key names the document in the error
   * @param stored what it was made from. Members that did not change keep its very text, for what JavaScript reads as
   *   equal need not be so elsewhere: 1.0 is a float to Python, 9007199254740993 a long to .NET.
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE where it is no object or holds a value that JSON cannot
   */
  static of (object: unknown, key: string, stored?: TextDocument): TextDocument {
    if (!isObject(object)) throw notStorable(key, `${describeType(object)} in place of an object`)
    const isPlain = hasPlainPrototype(object) && !('toJSON' in object)
    return TextDocument.#ofMembers(isPlain ? object : inJson(object, key), key, stored)
  }

  static #ofMembers (object: object, key: string, stored: TextDocument | undefined): TextDocument {
    const members = new Map<string, Text>()
    for (const [name, value] of Object.entries(object)) {
      const before = stored === undefined ? undefined : stored.#texts.get(name)
      const isUnchanged = before !== undefined && isAs(value, snapshotOfStored(stored?.valueOf(name)))
      const text = isUnchanged ? before : encodeValue(value, key)
      if (text !== undefined) members.set(name, text)
    }
    return new TextDocument(key, undefined, members)
  }

  /** Whether there is any content: what a storage could not even read has none. */
  get isReadable (): boolean {
    return !(this.#content instanceof Error)
  }

  /** What is stored, or to be stored. */
  get content (): Buffer | string {
    if (this.#content instanceof Error) throw this.#content
    if (this.#content !== undefined) return this.#content
    return joined(this.#texts)
  }

  names (): Iterable<string> {
    return this.#texts.keys()
  }

  has (name: string): boolean {
    return this.#texts.has(name)
  }

  textOf (name: string): string | undefined {
    const text = this.#texts.get(name)
    return text && decoded(text)
  }

  valueOf (name: string): unknown {
    const text = this.textOf(name)
    return text === undefined ? undefined : parsedMember(text, this.#key, name)
  }

  /** All of it as an object. */
  toObject (): StateDocument {
    const { content } = this
    return parseDocument(typeof content === 'string' ? content : this.#checked(content).toString(), this.#key)
  }

  /**
   * Applies an edit to a stored document.
   *
   * @returns nothing if no member is left
   */
  static edited (stored: TextDocument | undefined, edit: EditDocument, key: string): TextDocument | undefined {
    const { clears, members } = edit(stored)
    const texts = new Map(clears || stored === undefined ? undefined : stored.#texts)
    for (const [name, text] of members) {
      if (text === undefined) texts.delete(name)
      else texts.set(name, text)
    }
    return texts.size === 0 ? undefined : new TextDocument(key, undefined, texts)
  }

  /** Applies a change of the whole object to a stored document. */
  static changed (stored: TextDocument | undefined, change: ChangeDocument, key: string): TextDocument | undefined {
    const object = change(stored?.toObject())
    return object === undefined ? undefined : TextDocument.of(object, key, stored)
  }

  get #texts (): ReadonlyMap<string, Text> {
    this.#members ??= this.#cut()
    return this.#members
  }

  #cut (): ReadonlyMap<string, Text> {
    const bytes = this.#checked(this.content as Buffer)
    const members = memberTexts(bytes)
    if (members === undefined) throw notAnObject(parseDocument(bytes.toString(), this.#key), this.#key)
    return members
  }

  /** What came out of a storage, without a byte order mark. */
  #checked (bytes: Buffer): Buffer {
    if (!isUtf8(bytes)) throw new FST_BOTAS_STATE_CORRUPT_DOCUMENT(this.#key, 'not valid UTF-8')
    return BYTE_ORDER_MARK.every((byte, index) => bytes[index] === byte) ? bytes.subarray(BYTE_ORDER_MARK.length) : bytes
  }
}

const BYTE_ORDER_MARK = [0xEF, 0xBB, 0xBF]

function decoded (text: Text): string {
  return typeof text === 'string' ? text : text.bytes.toString('utf8', text.start, text.end)
}

/** The text of a document of these members, in bytes where some of it comes from bytes. */
function joined (members: ReadonlyMap<string, Text>): string | Buffer {
  if (members.size === 0) return '{}'
  const pieces: Array<string | Buffer> = []
  let text = '{'
  for (const [name, member] of members) {
    text += `${text === '{' ? '' : ','}${JSON.stringify(name)}:`
    if (typeof member === 'string') text += member
    else {
      pieces.push(text, member.bytes.subarray(member.start, member.end))
      text = ''
    }
  }
  text += '}'
  if (pieces.length === 0) return text
  return Buffer.concat([...pieces, text].map((piece) => typeof piece === 'string' ? Buffer.from(piece) : piece))
}

/**
 * Documents by their keys, out of objects by their keys.
 *
 * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE before any is given
 */
export function documentsOf (objects: Record<string, unknown>): Array<[key: string, document: TextDocument]> {
  return Object.entries(objects).map(([key, object]) => [key, TextDocument.of(object, key)])
}

/** What was found under some keys, as the method `read` of a storage gives it. */
export function objectsOf (keys: string[], found: Array<TextDocument | undefined>): Record<string, StateDocument> {
  const objects: Record<string, StateDocument> = {}
  for (const [index, key] of keys.entries()) {
    const document = found[index]
    if (document !== undefined) setMember(objects, key, document.toObject())
  }
  return objects
}

function parseDocument (text: string, key: string): StateDocument {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new FST_BOTAS_STATE_CORRUPT_DOCUMENT(key, `not a complete JSON object (its length is ${text.length})`)
  }
  if (!isObject(value)) throw notAnObject(value, key)
  return value
}

/** An object of a class, or with `toJSON`, as JSON has it. */
function inJson (object: object, key: string): object {
  const text = encodeValue(object, key)
  if (text?.startsWith('{') !== true) throw notStorable(key, 'what is not an object in JSON')
  return JSON.parse(text)
}

function notStorable (key: string, reason: string): Error {
  return new FST_BOTAS_STATE_NOT_SERIALIZABLE(placeOf(key), reason)
}
