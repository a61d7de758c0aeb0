import { isObject } from './describe-type.js'
import { type Document, type Edit, type StateDocument, assertDocument } from './document.js'
import { encodeStored, setMember } from './json-value.js'
import { snapshotOfStored, valueOf } from './snapshot.js'

/** A document of a storage that stores objects. Read-only. */
export class ObjectDocument implements Document {
  readonly #key: string
  readonly #object: unknown

  /**
   * @param object what the storage gave; or the FST_BOTAS_STATE_CORRUPT_DOCUMENT that says why there is none
   * @param key names the document in errors
   */
  constructor (object: unknown, key: string) {
    this.#object = object
    this.#key = key
  }

  get isCorrupt (): boolean {
    return this.#object instanceof Error || !isObject(this.#object)
  }

  /** The very object that the storage gave. */
  get object (): StateDocument {
    if (this.#object instanceof Error) throw this.#object
    assertDocument(this.#object, this.#key)
    return this.#object
  }

  names (): Iterable<string> {
    return Object.keys(this.object)
  }

  has (name: string): boolean {
    return Object.hasOwn(this.object, name)
  }

  textOf (name: string): string | undefined {
    return this.has(name) ? encodeStored(this.object[name]) : undefined
  }

  valueOf (name: string): unknown {
    return this.has(name) ? valueOf(snapshotOfStored(this.object[name])) : undefined
  }

  /** @returns nothing where nothing is left */
  static edited (stored: ObjectDocument | undefined, { clears, members }: Edit): StateDocument | undefined {
    const object: StateDocument = clears ? {} : { ...stored?.object }
    for (const [name, text] of members) {
      if (text === undefined) delete object[name]
      else setMember(object, name, JSON.parse(text))
    }
    return Object.keys(object).length === 0 ? undefined : object
  }
}
