import { KeyObject, createSecretKey } from 'node:crypto'
import { Cipher, type CipherKey } from '../document/cipher.js'
import { describeType, isObject } from '../document/describe-type.js'
import type { Encryption } from '../document/decrypted-document.js'
import { assertKnownOptions, invalidOption } from './option-checks.js'

/** A key of AES-256: 32 bytes, or these in Base64 or hexadecimal digits. */
export type EncryptionKey = Uint8Array | KeyObject | string

/** Keys by their ids. */
export interface EncryptionKeys {
  /**
   * The id of the one that encrypts. Without it, which needs `plaintext: 'accept'`, nothing is encrypted yet, but texts that would be taken
   * for encrypted ones: for replicas that have to know the keys before one of them encrypts.
   */
  current?: string | undefined
  [id: string]: EncryptionKey | undefined
}

/** The options of `encrypted`. */
export interface EncryptionOptions {
  /**
   * Keys by their ids, of letters, digits, `.`, `_` and `-`, 64 at most. A key is to encrypt no more than some 4,000,000,000 values; all of
   * them open what was encrypted with them.
   */
  keys: EncryptionKeys
  /**
   * What becomes of values that are not encrypted: `'accept'` loads them, and encrypts what changes, so that whoever can write to the
   * storage can put in values of his own. Default `'refuse'`.
   */
  plaintext?: 'accept' | 'refuse' | undefined
}

/**
 * Checks the options of `encrypted`. An error says nothing of a key, nor of an id that may be one.
 *
 * @throws FST_BOTAS_STATE_INVALID_OPTION
 */
export function encryptionOf (options: EncryptionOptions): Encryption {
  assertKnownOptions(options, ['keys', 'plaintext'])
  const { keys, plaintext = 'refuse' } = options
  if (plaintext !== 'accept' && plaintext !== 'refuse') throw invalidOption('plaintext', '"accept" or "refuse"', describeOther(plaintext))
  if (!isObject(keys)) throw invalidOption('keys', 'an object with "current" and a key for each id', describeType(keys))
  const { current: _current, ...others } = keys
  const found = Object.entries(others).map(([id, key]) => cipherKey(id, key))
  const acceptsPlaintext = plaintext === 'accept'
  return { cipher: new Cipher(found, currentOf(keys, found, acceptsPlaintext)), acceptsPlaintext }
}

/**
 * What would not be encrypted could not be read either where plaintext is refused. An id that is `undefined`, from an environment variable
 * for instance, is missing by mistake.
 */
function currentOf (keys: Partial<EncryptionKeys>, found: CipherKey[], isOptional: boolean): CipherKey | undefined {
  if (isOptional && found.length > 0 && !Object.hasOwn(keys, 'current')) return undefined
  const key = found.find(({ id }) => id === keys.current)
  if (key !== undefined) return key
  throw invalidOption('keys.current', `the id of one of the keys${isOptional ? ', or left out to encrypt nothing yet' : ''}`, describeOther(keys.current))
}

const KEY_ID = /^[\w.-]{1,64}$/
const KEY_BYTES = 32
/** A longer id may be a key of another length. */
const MAX_SHOWN = 20

function cipherKey (id: string, given: unknown): CipherKey {
  // Where id and key are swapped, the id is the key.
  if (!KEY_ID.test(id) || bytesOf(id)?.length === KEY_BYTES) {
    throw invalidOption('keys', 'an object with ids of letters, digits, ".", "_" and "-", 64 at most, and no keys among them', 'another id')
  }
  const bytes = bytesOf(given)
  if (bytes?.length === KEY_BYTES) return { id, secret: createSecretKey(bytes) }
  throw invalidOption(`keys.${id.length > MAX_SHOWN ? '…' : id}`, '32 bytes, or a string that has these in Base64 or hexadecimal digits, such as `openssl rand -base64 32` prints',
    bytes === undefined ? describeType(given) : `${typeof given === 'string' ? 'a string of ' : ''}${bytes.length} bytes`)
}

function bytesOf (given: unknown): Uint8Array | undefined {
  if (given instanceof KeyObject) return given.type === 'secret' ? given.export() : undefined
  if (given instanceof Uint8Array) return given
  return typeof given === 'string' ? bytesIn(given.trim()) : undefined
}

function bytesIn (text: string): Uint8Array | undefined {
  if (/^[\da-f]{64}$/i.test(text)) return Buffer.from(text, 'hex')
  return /^[\w+/-]+=*$/.test(text) ? Buffer.from(text, 'base64') : undefined
}

function describeOther (value: unknown): string {
  return typeof value === 'string' ? 'another string' : describeType(value)
}
