import { isUtf8 } from 'node:buffer'
import { type LoadedDocument, type StateDocument, incomplete, parseDocument } from './document.js'
import { FST_BOTAS_STATE_CORRUPT_DOCUMENT } from '../errors.js'

/** Longer documents, in bytes, are turned into text and parsed when somebody wants to know what they say. */
const EAGERLY_PARSED = 32_768

/** A document as it came out of a storage: bytes, their text, and what it says. */
export class StoredDocument implements LoadedDocument {
  readonly #key: string
  /** bytes until the text is needed */
  #content: Buffer | string
  #document: StateDocument | undefined

  /**
   * @param key names the document in errors
   * @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where the bytes are no UTF-8, or no JSON object as far as can be told without
   *   parsing a long one
   */
  constructor (bytes: Buffer, key: string) {
    this.#key = key
    this.#content = bytes
    if (!isUtf8(bytes)) throw new FST_BOTAS_STATE_CORRUPT_DOCUMENT(key, 'no UTF-8')
    if (bytes.length <= EAGERLY_PARSED) this.#document = parseDocument(this.text, key)
    else if (!isBraced(bytes)) throw incomplete(bytes.length, key)
  }

  /** Whether it is known to be an object. */
  get isParsed (): boolean {
    return this.#document !== undefined
  }

  get text (): string {
    if (typeof this.#content !== 'string') this.#content = this.#content.toString()
    return this.#content
  }

  /** @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where a long text is no JSON object */
  get document (): StateDocument {
    this.#document ??= parseDocument(this.text, this.#key)
    return this.#document
  }
}

/** Whether a JSON text begins and ends as an object does. */
function isBraced (bytes: Buffer): boolean {
  let first = bytes.indexOf(BYTE_ORDER_MARK) === 0 ? BYTE_ORDER_MARK.length : 0
  let last = bytes.length - 1
  while (WHITE_SPACE.includes(bytes[first])) first++
  while (WHITE_SPACE.includes(bytes[last])) last--
  return bytes[first] === OPENING_BRACE && bytes[last] === CLOSING_BRACE
}

const BYTE_ORDER_MARK = Buffer.from('\uFEFF')
const WHITE_SPACE: unknown[] = [...Buffer.from(' \t\r\n')]
const OPENING_BRACE = 0x7B
const CLOSING_BRACE = 0x7D
