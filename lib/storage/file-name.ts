import { createHash } from 'node:crypto'
import { FST_BOTAS_STATE_INVALID_ID } from '../errors.js'

const EXTENSION = '.json'
/** What ext4, XFS, APFS and NTFS allow. */
const MAX_NAME_BYTES = 255

/**
 * The name of the file that holds a key's document: the key percent-encoded with only the unreserved characters of
 * RFC 3986, section 2.3, kept, and `.json`. Where that is too long: as much of it as fits, `=` and the SHA-256 of the key in hex. The
 * encoding gives no `=`, so no other key has that name.
 *
 * @param maxBytes of a name, by default those of a file system
 * @throws FST_BOTAS_STATE_INVALID_ID where the key has half of a surrogate pair, which UTF-8 cannot encode
 */
export function fileName (key: string, maxBytes = MAX_NAME_BYTES): string {
  const name = percentEncoded(key)
  if (name.length + EXTENSION.length <= maxBytes) return name + EXTENSION
  const suffix = `=${createHash('sha256').update(key).digest('hex')}${EXTENSION}`
  const prefix = name.slice(0, maxBytes - suffix.length).replace(/%.?$/, '')
  return prefix + suffix
}

/** Whether a file has a name that `fileName` gives. */
export function isDocumentName (name: string): boolean {
  return /^(?:[\w.~-]|%[0-9A-F]{2})*(?:=[0-9a-f]{64})?\.json$/.test(name)
}

/** @throws FST_BOTAS_STATE_INVALID_ID where UTF-8 cannot encode a key */
export function assertWellFormed (key: string): void {
  if (!key.isWellFormed()) throw new FST_BOTAS_STATE_INVALID_ID('key', 'it has half of a surrogate pair')
}

/** @throws FST_BOTAS_STATE_INVALID_ID where UTF-8 cannot encode the key */
export function percentEncoded (key: string): string {
  assertWellFormed(key)
  // Other languages encode these too, encodeURIComponent does not.
  return encodeURIComponent(key).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
}
