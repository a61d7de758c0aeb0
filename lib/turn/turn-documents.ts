import type { Document, Edit } from '../document/document.js'
import type { DocumentRules, CurrentDocument } from '../document/document-rules.js'
import type { PersistedScope } from '../state/state-scope.js'
import type { TrackedScope } from '../state/tracked-scope.js'
import type { TurnScopes } from '../state/turn-state.js'
import { type TurnIdentity, keyOf } from './identity.js'
import type { DocumentEdit } from './save.js'

/** What the documents of each scope have to be like; left out where they may be anything. */
export type ScopeRules = { readonly [Scope in PersistedScope]?: DocumentRules | undefined }

/** A document that a turn is loaded with. */
interface TurnDocument {
  readonly key: string
  readonly scope: TrackedScope<PersistedScope>
  readonly rules: DocumentRules | undefined
  loaded: Document | undefined
  /** the same as the code knows it; left out where there are no rules */
  current: CurrentDocument | undefined
}

/** The scopes that have a document of their own. */
export const SCOPES = ['conversation', 'user'] as const

/** The documents that a turn is loaded with, and what it makes of them. */
export class TurnDocuments {
  readonly #documents: TurnDocument[] = []
  /** of these documents */
  readonly keys: string[] = []

  /** Those that the identity has ids for. */
  identify (identity: TurnIdentity, state: TurnScopes, rules: ScopeRules | undefined): void {
    for (const name of SCOPES) {
      const key = keyOf(name, identity)
      if (key === undefined) continue
      this.#documents.push({ key, scope: state[name], rules: rules?.[name], loaded: undefined, current: undefined })
      this.keys.push(key)
    }
  }

  /**
   * @param found in the order of the keys
   * @param refused is told where one turns out to be none that the code can use, when its scope is first touched
   */
  use (found: Array<Document | undefined>, refused: (error: unknown) => void): void {
    for (let index = 0; index < found.length; index++) {
      const document = this.#documents[index] as TurnDocument
      document.loaded = found[index]
      document.current = document.rules?.current(document.loaded, document.key)
      document.scope.load(document.current ?? document.loaded, refused)
    }
  }

  /** Nothing of them is to be saved. */
  leave (): void {
    this.#documents.length = 0
  }

  /** What the turn made of them, as the code knows them, whether that can be saved or not. A document that JSON cannot hold is left out. */
  * made (): Generator<{ key: string, stored: Document | undefined, edit: Edit }> {
    for (const { key, scope, loaded, current = loaded } of this.#documents) {
      try {
        const edit = scope.changes()?.(current)
        if (edit !== undefined) yield { key, stored: current, edit }
      } catch {
        // The turn has failed for that.
      }
    }
  }

  /**
   * What the turn makes of them. All are encoded, and checked, before any is saved.
   *
   * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE or FST_BOTAS_STATE_INVALID_DOCUMENT
   */
  edits (): DocumentEdit[] {
    const edits: DocumentEdit[] = []
    for (const { key, scope, rules, loaded, current } of this.#documents) {
      const edit = scope.changes()
      if (edit === undefined) continue
      edits.push({ key, loaded, edit: rules === undefined ? edit : rules.edit(edit, loaded, current, key), forgets: scope.isForgotten })
    }
    return edits
  }
}
