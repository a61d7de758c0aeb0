import { FST_BOTAS_STATE_CANNOT_DECRYPT, FST_BOTAS_STATE_INVALID_DOCUMENT, FST_BOTAS_STATE_NEWER_DOCUMENT } from '../errors.js'

/** Whether a document itself is why it was not loaded or saved: its error says so by its own code. */
export function isAboutDocument (error: unknown): error is Error {
  return [FST_BOTAS_STATE_CANNOT_DECRYPT, FST_BOTAS_STATE_INVALID_DOCUMENT, FST_BOTAS_STATE_NEWER_DOCUMENT].some((code) => error instanceof code)
}
