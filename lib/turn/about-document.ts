import { FST_BOTAS_STATE_CANNOT_DECRYPT, FST_BOTAS_STATE_INVALID_DOCUMENT, FST_BOTAS_STATE_NEWER_DOCUMENT } from '../errors.js'

/**
 * Whether an error is about a document, or a kept reply, and not about the storage: it keeps its own code. A corrupt document is refused by its
 * storage, when it is saved.
 */
export function isAboutDocument (error: unknown): error is Error {
  return [FST_BOTAS_STATE_CANNOT_DECRYPT, FST_BOTAS_STATE_INVALID_DOCUMENT, FST_BOTAS_STATE_NEWER_DOCUMENT].some((code) => error instanceof code)
}
