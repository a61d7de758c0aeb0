import { FST_BOTAS_STATE_CORRUPT_DOCUMENT } from '../errors.js'
import { type Cipher, type SealedPlace, cannotDecrypt, isSealed } from './cipher.js'
import type { Document, Edit, EditDocument } from './document.js'

/** How the members of documents are encrypted. */
export interface Sealing {
  readonly cipher: Cipher
  /** whether values that are not encrypted are taken as they are */
  readonly acceptsPlaintext: boolean
}

/** A document whose members are encrypted, as one that is not. A member is decrypted when it is asked for. */
export class UnsealedDocument implements Document {
  readonly sealed: Document
  readonly #key: string
  readonly #sealing: Sealing

  /** @param key of the document */
  constructor (sealed: Document, key: string, sealing: Sealing) {
    this.sealed = sealed
    this.#key = key
    this.#sealing = sealing
  }

  names (): Iterable<string> {
    return this.sealed.names()
  }

  has (name: string): boolean {
    return this.sealed.has(name)
  }

  /** @throws FST_BOTAS_STATE_CANNOT_DECRYPT */
  textOf (name: string): string | undefined {
    if (!this.has(name)) return undefined
    return this.#unsealed(name, this.sealed.valueOf(name)) ?? this.sealed.textOf(name)
  }

  /** @throws FST_BOTAS_STATE_CANNOT_DECRYPT */
  valueOf (name: string): unknown {
    if (!this.has(name)) return undefined
    const value = this.sealed.valueOf(name)
    const text = this.#unsealed(name, value)
    return text === undefined ? value : parsed(text, this.#key, name)
  }

  /** @returns nothing for a value that is accepted as it is */
  #unsealed (name: string, value: unknown): string | undefined {
    const { cipher, acceptsPlaintext } = this.#sealing
    const place = placeOf(this.#key, name)
    if (isSealed(value)) return cipher.open(value, place)
    if (!acceptsPlaintext) throw cannotDecrypt(place, 'it is not encrypted, and the option "plaintext" is "refuse"')
    return undefined
  }

  /**
   * An edit of the document as it is when it is not encrypted, as an edit of what is stored.
   *
   * @param loaded what the turn was loaded with
   */
  static sealedEdit (edit: EditDocument, loaded: UnsealedDocument | undefined, key: string, sealing: Sealing): EditDocument {
    return (current) => {
      const unsealed = current === loaded?.sealed ? loaded : current && new UnsealedDocument(current, key, sealing)
      return sealed(edit(unsealed), key, sealing.cipher)
    }
  }
}

/** What becomes of the text of one member. */
export function sealedText (text: string, key: string, name: string, cipher: Cipher): string {
  return JSON.stringify(cipher.seal(text, placeOf(key, name)))
}

function sealed ({ clears, members }: Edit, key: string, cipher: Cipher): Edit {
  const texts = [...members].map(([name, text]) => [name, text && sealedText(text, key, name, cipher)] as const)
  return { clears, members: new Map(texts) }
}

function placeOf (key: string, name: string): SealedPlace {
  return { kind: 'member', key, name }
}

function parsed (text: string, key: string, name: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // The parser's own message quotes the text, which is private.
    throw new FST_BOTAS_STATE_CORRUPT_DOCUMENT(key, `not valid JSON in its member "${name}"`)
  }
}
