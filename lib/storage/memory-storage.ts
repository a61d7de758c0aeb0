import { type ChangeDocument, type StateDocument, encodeDocument, encodeDocuments, parseDocument } from '../document.js'
import type { Storage } from './storage.js'

/**
 * State in the memory of this process, for development, tests and bots that may forget. Documents are kept as JSON
 * text, so that nothing is shared with a handler.
 */
export class MemoryStorage implements Storage {
  readonly #texts = new Map<string, string>()

  /** The documents of these keys; a key that is not stored is left out. */
  async read (keys: string[]): Promise<Record<string, StateDocument>> {
    const found: Array<[string, StateDocument]> = []
    for (const key of keys) {
      const text = this.#texts.get(key)
      if (text !== undefined) found.push([key, parseDocument(text, key)])
    }
    return Object.fromEntries(found)
  }

  /**
   * Replaces whole documents, whatever is stored.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE, and then writes nothing
   */
  async write (changes: Record<string, unknown>): Promise<void> {
    for (const [key, text] of encodeDocuments(changes)) this.#texts.set(key, text)
  }

  /** Deletes documents; a key that is not stored is no error. */
  async delete (keys: string[]): Promise<void> {
    for (const key of keys) this.#texts.delete(key)
  }

  /**
   * Changes one document. Synchronous inside: no other turn comes between.
   *
   * @throws what `change` throws, and FST_BOTAS_STATE_NOT_SERIALIZABLE
   */
  async update (key: string, change: ChangeDocument): Promise<void> {
    const text = this.#texts.get(key)
    const stored = text === undefined ? undefined : { text, document: parseDocument(text, key) }
    const next = change(stored?.document)
    if (next === undefined) this.#texts.delete(key)
    else this.#texts.set(key, encodeDocument(next, key, stored))
  }

  /** Keeps what is stored: another server may go on with it. */
  async close (): Promise<void> {}
}
