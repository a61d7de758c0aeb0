import { type KeyObject, createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { FST_BOTAS_STATE_CANNOT_DECRYPT } from '../errors.js'

/** Begins every encrypted text, with the version of its format: `~encrypted:1:<key id>:<Base64url of nonce, ciphertext and tag>`. */
const PREFIX = '~encrypted:1:'
const SEALED = /^~encrypted:1:([\w.-]+):([\w-]+)$/

const ALGORITHM = 'aes-256-gcm'
const NONCE_BYTES = 12
const TAG_BYTES = 16

/** Where an encrypted text belongs: elsewhere it does not open. */
export interface SealedPlace {
  /** Tells what is there. */
  readonly kind: 'member' | 'reply'
  /** Of the document, or the name of the record. */
  readonly key: string
  /** Of the member; '' of a record. */
  readonly name: string
}

/** AES-256-GCM, with a nonce of its own for each text, and the place of the text as associated data. */
export class Cipher {
  readonly #keys: ReadonlyMap<string, KeyObject>
  readonly #current: string

  /**
   * @param keys of 32 bytes each, by their ids
   * @param current the id of the one that encrypts
   */
  constructor (keys: ReadonlyMap<string, KeyObject>, current: string) {
    this.#keys = keys
    this.#current = current
  }

  seal (text: string, place: SealedPlace): string {
    const nonce = randomBytes(NONCE_BYTES)
    const cipher = createCipheriv(ALGORITHM, this.#keys.get(this.#current) as KeyObject, nonce).setAAD(associatedData(place))
    const bytes = Buffer.concat([nonce, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()])
    return `${PREFIX}${this.#current}:${bytes.toString('base64url')}`
  }

  /** @throws FST_BOTAS_STATE_CANNOT_DECRYPT */
  open (sealed: string, place: SealedPlace): string {
    const [, id, content] = SEALED.exec(sealed) ?? []
    const bytes = Buffer.from(content ?? '', 'base64url')
    if (id === undefined || !isWritten(bytes, content as string)) throw cannotDecrypt(place, 'it was truncated, or changed')
    const key = this.#keys.get(id)
    if (key === undefined) throw cannotDecrypt(place, `there is no key "${id.slice(0, MAX_ID_LENGTH)}" in the option "keys"`)
    try {
      return opened(bytes, key, place)
    } catch {
      throw cannotDecrypt(place, `the key "${id}" does not open it; it was changed, truncated, moved from elsewhere, or encrypted with another key of that id`)
    }
  }
}

/** Of a key. */
export const MAX_ID_LENGTH = 64

/** Whether a value is encrypted, as far as can be seen. */
export function isSealed (value: unknown): value is string {
  return typeof value === 'string' && value.startsWith(PREFIX)
}

export function cannotDecrypt ({ kind, key, name }: SealedPlace, reason: string): Error {
  return new FST_BOTAS_STATE_CANNOT_DECRYPT(kind === 'member' ? `the member "${name}" of the document "${key}"` : `the kept reply "${key}"`, reason)
}

/** Whether this is how the bytes are written: the last character has bits that count for nothing, and are to be 0. */
function isWritten (bytes: Buffer, content: string): boolean {
  return bytes.length >= NONCE_BYTES + TAG_BYTES && content.endsWith(bytes.subarray(-(bytes.length % 3) || bytes.length).toString('base64url'))
}

function opened (bytes: Buffer, key: KeyObject, place: SealedPlace): string {
  const end = bytes.length - TAG_BYTES
  const decipher = createDecipheriv(ALGORITHM, key, bytes.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES })
    .setAAD(associatedData(place))
    .setAuthTag(bytes.subarray(end))
  return Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES, end)), decipher.final()]).toString()
}

/** The length of the key tells where it ends, whatever it holds. */
function associatedData ({ kind, key, name }: SealedPlace): Buffer {
  return Buffer.from(`${kind}:${Buffer.byteLength(key)}:${key}${name}`)
}
