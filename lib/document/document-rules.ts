import type { StandardSchemaV1 } from '@standard-schema/spec'
import type { Document, Edit, EditDocument } from './document.js'
import { EditedDocument } from './edited-document.js'
import { assertFits } from './schema.js'
import { type Versions, upgradeOf, withVersion } from './versions.js'

/** What the code of today expects of the documents of a scope. */
export class DocumentRules {
  readonly #schema: StandardSchemaV1 | undefined
  readonly #versions: Versions | undefined

  constructor (schema: StandardSchemaV1 | undefined, versions: Versions | undefined) {
    this.#schema = schema
    this.#versions = versions
  }

  /** A stored document as the code knows it: upgraded and checked when it is first asked for something. */
  open (stored: Document | undefined, key: string): OpenedDocument | undefined {
    return stored && new OpenedDocument(stored, (stored) => this.#upgrade(stored, key))
  }

  /**
   * An edit of a document as the code knows it, as an edit of what is stored.
   *
   * @param stored what the turn was loaded with
   * @param opened the same, opened
   * @throws FST_BOTAS_STATE_INVALID_DOCUMENT, and whatever `edit` throws, before anything is saved
   */
  edit (edit: EditDocument, stored: Document | undefined, opened: OpenedDocument | undefined, key: string): EditDocument {
    const first = this.#edited(edit, stored, opened, key)
    return (current) => current === stored ? first : this.#edited(edit, current, this.open(current, key), key)
  }

  #upgrade (stored: Document, key: string): Edit {
    const upgrade = (this.#versions && upgradeOf(stored, this.#versions, key)) ?? UNCHANGED
    if (this.#schema !== undefined) assertFits(new EditedDocument(stored, upgrade), this.#schema, key, 'does not fit its schema')
    return upgrade
  }

  #edited (edit: EditDocument, stored: Document | undefined, opened: OpenedDocument | undefined, key: string): Edit {
    const change = edit(opened)
    const whole = change.clears || opened === undefined ? change : { ...change, members: new Map([...opened.upgrade.members, ...change.members]) }
    const edited = this.#versions === undefined ? whole : withVersion(whole, stored, this.#versions, key)
    const document = new EditedDocument(stored, edited)
    const isLeft = [...document.names()].length > 0
    if (isLeft && this.#schema !== undefined) assertFits(document, this.#schema, key, 'would not fit its schema')
    return edited
  }
}

const UNCHANGED: Edit = { clears: false, members: new Map() }

/** A stored document as the code knows it. */
export class OpenedDocument implements Document {
  readonly #stored: Document
  readonly #upgradeOf: (stored: Document) => Edit
  #upgrade: Edit | undefined

  constructor (stored: Document, upgradeOf: (stored: Document) => Edit) {
    this.#stored = stored
    this.#upgradeOf = upgradeOf
  }

  /** What made it what it is; stored with the first change. */
  get upgrade (): Edit {
    this.#upgrade ??= this.#upgradeOf(this.#stored)
    return this.#upgrade
  }

  get #document (): Document {
    return new EditedDocument(this.#stored, this.upgrade)
  }

  names (): Iterable<string> {
    return this.#document.names()
  }

  has (name: string): boolean {
    return this.#document.has(name)
  }

  textOf (name: string): string | undefined {
    return this.#document.textOf(name)
  }

  valueOf (name: string): unknown {
    return this.#document.valueOf(name)
  }
}
