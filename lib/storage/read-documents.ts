import type { StateDocument } from '../document/document.js'
import { type TextDocument, objectsOf } from '../document/text-document.js'

/** The documents that the method `read` of a storage gave, for as long as somebody holds them. */
export class ReadDocuments {
  readonly #documents = new WeakMap<StateDocument, TextDocument>()

  /** What was found under some keys, as `read` gives it. */
  give (keys: string[], found: Array<TextDocument | undefined>): Record<string, StateDocument> {
    const objects = objectsOf(keys, found)
    for (const [index, key] of keys.entries()) {
      const document = found[index]
      if (document !== undefined) this.#documents.set(objects[key] as StateDocument, document)
    }
    return objects
  }

  /** What an object was made of that `give` gave. */
  of (object: StateDocument | undefined): TextDocument | undefined {
    return object && this.#documents.get(object)
  }
}
