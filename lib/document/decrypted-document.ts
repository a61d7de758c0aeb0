import { type Cipher, type Subject, cannotDecrypt, isEncrypted } from './cipher.js'
import { type Document, type EditDocument, parsedMember } from './document.js'

/** How the members of documents are encrypted. */
export interface Encryption {
  readonly cipher: Cipher
  /** whether values that are not encrypted are taken as they are */
  readonly acceptsPlaintext: boolean
}

/** A document whose members are encrypted, as one that is not. A member is decrypted when it is asked for. */
export class DecryptedDocument implements Document {
  readonly encrypted: Document
  readonly #key: string
  readonly #encryption: Encryption

  /** @param key of the document */
  constructor (encrypted: Document, key: string, encryption: Encryption) {
    this.encrypted = encrypted
    this.#key = key
    this.#encryption = encryption
  }

  names (): Iterable<string> {
    return this.encrypted.names()
  }

  has (name: string): boolean {
    return this.encrypted.has(name)
  }

  /** @throws FST_BOTAS_STATE_CANNOT_DECRYPT */
  textOf (name: string): string | undefined {
    if (!this.has(name)) return undefined
    return this.#decrypted(name, this.encrypted.valueOf(name)) ?? this.encrypted.textOf(name)
  }

  /** @throws FST_BOTAS_STATE_CANNOT_DECRYPT */
  valueOf (name: string): unknown {
    if (!this.has(name)) return undefined
    const value = this.encrypted.valueOf(name)
    const text = this.#decrypted(name, value)
    return text === undefined ? value : parsedMember(text, this.#key, name)
  }

  /** @returns nothing for a value that is accepted as it is */
  #decrypted (name: string, value: unknown): string | undefined {
    return decryptedText(value, subjectOf(this.#key, name), this.#encryption)
  }
}

/**
 * The text of which a value is the encryption.
 *
 * @returns nothing for a value that is accepted as it is
 * @throws FST_BOTAS_STATE_CANNOT_DECRYPT
 */
export function decryptedText (value: unknown, subject: Subject, { cipher, acceptsPlaintext }: Encryption): string | undefined {
  if (isEncrypted(value)) return cipher.decrypt(value, subject)
  if (!acceptsPlaintext) throw cannotDecrypt(subject, 'it is not encrypted, and the option "plaintext" is "refuse"')
  return undefined
}

/**
 * An edit of the document as it is when it is not encrypted, as an edit of what is stored.
 *
 * @param loaded what the turn was loaded with
 */
export function encryptedEdit (edit: EditDocument, loaded: DecryptedDocument | undefined, key: string, encryption: Encryption): EditDocument {
  return (current) => {
    const document = current === loaded?.encrypted ? loaded : current && new DecryptedDocument(current, key, encryption)
    const { clears, members } = edit(document)
    const texts = [...members].map(([name, text]) => [name, text && encryptedText(text, key, name, encryption.cipher)] as const)
    return { clears, members: new Map(texts) }
  }
}

/** What is stored of the JSON text of a member. */
export function encryptedText (text: string, key: string, name: string, cipher: Cipher): string {
  // What begins as an encrypted text does has a quotation mark before that in JSON, and nothing else.
  return cipher.encrypts(text.slice(1)) ? JSON.stringify(cipher.encrypt(text, subjectOf(key, name))) : text
}

function subjectOf (key: string, name: string): Subject {
  return { kind: 'member', key, name }
}
