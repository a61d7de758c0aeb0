import { type KeyObject, createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { FST_BOTAS_STATE_CANNOT_DECRYPT } from '../errors.js'

/** Begins every encrypted text; its version comes next: `~encrypted:1:<key id>:<Base64url of nonce, ciphertext and tag>`. */
const PREFIX = '~encrypted:'
const HEAD = /^~encrypted:1:([\w.-]{1,64}):/

const ALGORITHM = 'aes-256-gcm'
const NONCE_BYTES = 12
const TAG_BYTES = 16

/** What an encrypted text is bound to: as anything else it cannot be decrypted. */
export interface Subject {
  readonly kind: 'member' | 'reply'
  /** of the document, or the name of the record */
  readonly key: string
  /** of the member; '' of a record */
  readonly name: string
}

/** A key, and how values name it. */
export interface CipherKey {
  readonly id: string
  /** of 32 bytes */
  readonly secret: KeyObject
}

/** AES-256-GCM, with a nonce of its own for each text, and what the text is bound to as associated data. */
export class Cipher {
  readonly #keys: ReadonlyMap<string, CipherKey>
  readonly #current: CipherKey | undefined

  /**
   * @param keys one at least
   * @param current the one that encrypts; without one nothing is encrypted, see `encrypts`
   */
  constructor (keys: readonly CipherKey[], current: CipherKey | undefined) {
    this.#keys = new Map(keys.map((key) => [key.id, key]))
    this.#current = current
  }

  /** Whether a text is to be encrypted: without a current key only one that would be taken for encrypted where it is stored in clear. */
  encrypts (text: string): boolean {
    return this.#current !== undefined || isEncrypted(text)
  }

  encrypt (text: string, subject: Subject): string {
    const { id, secret } = this.#current ?? [...this.#keys.values()][0] as CipherKey
    const nonce = randomBytes(NONCE_BYTES)
    const cipher = createCipheriv(ALGORITHM, secret, nonce).setAAD(associatedData(subject))
    const bytes = Buffer.concat([nonce, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()])
    return `${PREFIX}1:${id}:${bytes.toString('base64url')}`
  }

  /** @throws FST_BOTAS_STATE_CANNOT_DECRYPT */
  decrypt (encrypted: string, subject: Subject): string {
    const [head = '', id = ''] = HEAD.exec(encrypted) ?? []
    const content = head === '' ? '' : encrypted.slice(head.length)
    const bytes = Buffer.from(content, 'base64url')
    if (!isWritten(bytes, content)) throw cannotDecrypt(subject, 'it was truncated or changed, or is of a format that is not known')
    const key = this.#keys.get(id)
    if (key === undefined) throw cannotDecrypt(subject, `there is no key "${id}" in the option "keys": add it`)
    try {
      return decrypted(bytes, key.secret, subject)
    } catch {
      throw cannotDecrypt(subject, `the key "${id}" does not open it; it was changed, truncated, moved from elsewhere, or encrypted with another key of that id`)
    }
  }

  /** Whether a value is encrypted with the key that it would be encrypted with now, if there is one. */
  isCurrent (value: unknown): boolean {
    return this.#current === undefined || (typeof value === 'string' && value.startsWith(`${PREFIX}1:${this.#current.id}:`))
  }
}

/** Whether a value says that it is encrypted, in this format or another one. */
export function isEncrypted (value: unknown): value is string {
  return typeof value === 'string' && value.startsWith(PREFIX)
}

/** The error of what cannot be decrypted. */
export function cannotDecrypt ({ kind, key, name }: Subject, reason: string): Error {
  return new FST_BOTAS_STATE_CANNOT_DECRYPT(kind === 'member' ? `the member "${name}" of the document "${key}"` : `the kept reply "${key}"`, reason)
}

/**
 * Whether this is how the bytes are written. What Buffer reads leniently is not: the characters of the other Base64, others, which it leaves
 * out, and a last character with bits that count for nothing.
 */
function isWritten (bytes: Buffer, content: string): boolean {
  return bytes.length >= NONCE_BYTES + TAG_BYTES && content.length === Math.ceil(bytes.length * 4 / 3) && !content.includes('+') && !content.includes('/') &&
    content.endsWith(bytes.subarray(-(bytes.length % 3) || bytes.length).toString('base64url'))
}

function decrypted (bytes: Buffer, key: KeyObject, subject: Subject): string {
  const end = bytes.length - TAG_BYTES
  const decipher = createDecipheriv(ALGORITHM, key, bytes.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES })
    .setAAD(associatedData(subject))
    .setAuthTag(bytes.subarray(end))
  return Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES, end)), decipher.final()]).toString()
}

/** The length of the key tells where it ends, whatever it holds. */
function associatedData ({ kind, key, name }: Subject): Buffer {
  return Buffer.from(`${kind}:${Buffer.byteLength(key)}:${key}${name}`)
}
