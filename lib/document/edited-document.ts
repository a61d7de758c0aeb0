import type { Document, Edit } from './document.js'

/** A document with an edit applied. */
export class EditedDocument implements Document {
  /** without what the edit clears */
  readonly #stored: Document | undefined
  readonly #members: Edit['members']

  constructor (stored: Document | undefined, { clears, members }: Edit) {
    this.#stored = clears ? undefined : stored
    this.#members = members
  }

  names (): Iterable<string> {
    const names = new Set(this.#stored?.names())
    for (const name of this.#members.keys()) names.add(name)
    return [...names].filter((name) => this.has(name))
  }

  has (name: string): boolean {
    return this.#members.has(name) ? this.#members.get(name) !== undefined : this.#stored?.has(name) === true
  }

  textOf (name: string): string | undefined {
    return this.#members.has(name) ? this.#members.get(name) : this.#stored?.textOf(name)
  }

  valueOf (name: string): unknown {
    const text = this.#members.get(name)
    return text === undefined && !this.#members.has(name) ? this.#stored?.valueOf(name) : text && JSON.parse(text)
  }
}
