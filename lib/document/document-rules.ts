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

  /** A loaded document as the code knows it: upgraded and checked when it is first asked for something. */
  current (loaded: Document | undefined, documentKey: string): CurrentDocument | undefined {
    return loaded && new CurrentDocument(loaded, (loaded) => this.#upgrade(loaded, documentKey))
  }

  /**
   * An edit of a document as the code knows it, as an edit of what is stored.
   *
   * @param loaded what the turn was loaded with
   * @param current the same, as the code knows it
   * @throws FST_BOTAS_STATE_INVALID_DOCUMENT, and whatever `edit` throws, before anything is saved
   */
  edit (edit: EditDocument, loaded: Document | undefined, current: CurrentDocument | undefined, documentKey: string): EditDocument {
    const first = this.#edited(edit, loaded, current, documentKey)
    return (stored) => stored === loaded ? first : this.#edited(edit, stored, this.current(stored, documentKey), documentKey)
  }

  #upgrade (stored: Document, documentKey: string): Edit {
    const upgrade = (this.#versions && upgradeOf(stored, this.#versions, documentKey)) ?? UNCHANGED
    if (this.#schema !== undefined) assertFits(new EditedDocument(stored, upgrade), this.#schema, documentKey, 'does not fit its schema')
    return upgrade
  }

  #edited (edit: EditDocument, stored: Document | undefined, current: CurrentDocument | undefined, documentKey: string): Edit {
    const change = edit(current)
    const whole = change.clears || current === undefined ? change : { ...change, members: new Map([...current.upgrade.members, ...change.members]) }
    const edited = this.#versions === undefined ? whole : withVersion(whole, stored, this.#versions, documentKey)
    if (this.#schema === undefined) return edited
    const document = new EditedDocument(stored, edited)
    if ([...document.names()].length > 0) assertFits(document, this.#schema, documentKey, 'would not fit its schema')
    return edited
  }
}

const UNCHANGED: Edit = { clears: false, members: new Map() }

/** A stored document as the code knows it. */
export class CurrentDocument implements Document {
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
