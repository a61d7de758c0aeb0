import type { Document, Edit } from '../document/document.js'
import type { TurnIdentity } from './identity.js'
import type { StateEvent } from './telemetry.js'

/** What a turn is at, one after another. It may wait, and load, more than once. */
export type Phase = 'waiting' | 'loading' | 'handler' | 'saving'

/** Is told of one turn while it is on its way, values included. Every method returns at once, and throws nothing. */
export interface TurnWatch {
  /** Its documents are those of its ids. */
  identified(identity: TurnIdentity): void
  /** What it is at from now on. */
  enters(phase: Phase): void
  /** The storage has to load or save again. */
  retrying(): void
  /**
   * A load or a save is over.
   *
   * @param event what is published for operators
   * @param failure why it failed, and the keys of documents that were saved all the same; left out where it succeeded
   */
  published(kind: 'load' | 'save', event: StateEvent, failure?: { error: unknown, saved: string[] }): void
  /** What the turn makes of a document as it is stored. Told again where another turn was faster: the last time counts. */
  edited(key: string, stored: Document | undefined, edit: Edit): void
  /** It has failed, for good. `cause` is left out where nothing was thrown. */
  failed(cause: unknown): void
  /** A later turn has taken its place. */
  replaced(error: Error): void
  /** It is merged with another one that has come between. */
  overlapped(): void
  /** Its activity was handled before. */
  replayed(): void
  /**
   * Nothing more is to come of it.
   *
   * @param made what the turn made of the documents that it was loaded with, saved or not
   */
  over(made: Iterable<{ key: string, stored: Document | undefined, edit: Edit }>): void
}

/**
 * Makes the watch of a turn that begins.
 *
 * @param hasClient whether it is that of a request
 */
export type WatchTurn = (hasClient: boolean) => TurnWatch
