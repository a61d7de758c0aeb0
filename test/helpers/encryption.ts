import type { Test } from 'tap'
import { type EncryptionOptions, type Storage, encrypted } from '../../lib/index.js'
import type { TestedServer } from './tested-servers.js'

/** The same in `test/processes/open-storage.js`. */
export const KEYS = { '2026-05': Buffer.alloc(32, 5), '2026-11': Buffer.alloc(32, 11) }

/** Encrypts with the newer of two keys. */
export const ENCRYPTION: EncryptionOptions = { keys: { current: '2026-11', ...KEYS } }

/** A server on which everything is encrypted. */
export function encryptedServer (newServer: (t: Test) => Promise<TestedServer>): (t: Test) => Promise<TestedServer> {
  return async (t) => {
    const server = await newServer(t)
    return {
      ...server,
      urlAt: (port) => `encrypted-2026-11+${server.urlAt(port)}`,
      storageAt: (port) => encryptedAs(server.storageAt(port))
    }
  }
}

/** A storage whose optional methods are those of the one that it encrypts. */
export function encryptedAs<S extends Storage> (storage: S, options = ENCRYPTION): S {
  return encrypted(storage, options) as S
}
