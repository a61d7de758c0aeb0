import type { Document, EditDocument } from '../document/document.js'
import { foreignStore } from './foreign-store.js'
import type { Storage, StorageCall } from './storage.js'

/** What a turn makes of one document. */
export interface DocumentChange {
  readonly key: string
  /** what the turn was loaded with */
  readonly loaded: Document | undefined
  readonly edit: EditDocument
  /**
   * Whether the same step removes what earlier turns left beside the document, marks of activities and kept replies, as far as the
   * storage can find these.
   */
  readonly forgets: boolean
  /** set by the storage */
  isSaved: boolean
}

/** The contract between turns and storages. Documents are immutable; `save` gets those that `load` returned. */
export interface DocumentStore {
  /** The documents in the order of their keys. */
  load(keys: string[], call: StorageCall): Promise<Array<Document | undefined>>
  /**
   * Edits documents where they are. Settles when nothing more is under way, and rejects then with the first error.
   *
   * @param end of a turn that holds something in the storage
   */
  save(changes: DocumentChange[], call: StorageCall, end?: TurnEnd): Promise<SaveOutcome>
  /** How long a document that is stored is kept from now, in milliseconds, `Infinity` for ever. Left out where the storage does not tell. */
  timeLeft?(key: string, call: StorageCall): Promise<number>
  /** Left out where the storage can hold nothing but documents. */
  readonly holds?: Holds
}

/** What a turn holds in a storage beside its documents, until it is over. */
export interface Hold {
  /** of the document that it stands beside */
  readonly key: string
  /** Names the turn: the origin, and a number that is greater for later turns. */
  readonly holder: string
  /** Names the process and its storage. */
  readonly origin: string
  /** When the turn arrived, in milliseconds since 1970, by the clock of its process. */
  readonly arrived: number
  /** How long others leave it to the turn, from when it was last renewed, in milliseconds. */
  readonly lease: number
  /** Left out where the turn takes no place. */
  readonly place: { readonly strategy: PlaceStrategy, readonly isReplaceable: boolean } | undefined
  /** The activity that is handled once, and for how many seconds that is remembered. Left out where there is none. */
  readonly activity: { readonly id: string, readonly ttl: number } | undefined
}

/** How a turn takes a place that another one has. */
export type PlaceStrategy = 'queue' | 'reject' | 'replace'

/** What became of a turn that wants to hold something. */
export type Entry =
  /** It holds everything; the documents were loaded after that, in the order of their keys. */
  | { outcome: 'entered', documents: Array<Document | undefined> }
  /** Its place is taken, and it stands in line; or, with `reject`, it does not. */
  | { outcome: 'waiting' | 'taken' }
  /** A later turn took its place in the line. */
  | { outcome: 'replaced' }
  /** Another turn handles the activity, or has handled it: `reply` is what it kept. */
  | { outcome: 'running' }
  | { outcome: 'done', reply: string }

/** What storages hold for turns. Every method may be called again with the same hold. */
export interface Holds {
  /**
   * Whether other processes see it; `undefined` where there may be some that do not. The turns of this process wait for each other
   * before they ask.
   */
  readonly isShared: boolean | undefined
  /** Whether an activity can be remembered together with the documents. */
  readonly remembers: boolean
  /** Whether `save` lets go of what a turn held; otherwise `leave` has to follow. */
  readonly isLeftBySave: boolean
  /**
   * Takes the activity and the place of a turn, and loads documents. To be asked again for as long as the turn has to wait.
   */
  enter(hold: Hold, keys: string[], call: StorageCall): Promise<Entry>
  /** Holds it for longer. Resolves to false where another turn has taken the place. */
  renew(hold: Hold, call: StorageCall): Promise<boolean>
  /** Lets go of place and activity; the activity may be handled again. */
  leave(hold: Hold, call: StorageCall): Promise<void>
}

/** The same holds, entered in another way. */
export function enteredBy (holds: Holds, enter: Holds['enter']): Holds {
  const { isShared, remembers, isLeftBySave } = holds
  return { isShared, remembers, isLeftBySave, enter, renew: (...call) => holds.renew(...call), leave: (...call) => holds.leave(...call) }
}

/** How a turn ends that holds something: stored together with its documents, or not at all. */
export interface TurnEnd {
  readonly hold: Hold
  /** Of an activity that is handled now: what the next deliveries get. */
  readonly reply: string | undefined
  /** Whether it lets go of the place. */
  readonly leaves: boolean
}

/**
 * `'overlapped'`: saved, though the place was lost to another turn meanwhile. Not saved: `'replaced'` by a turn that took the
 * place, `'handled'` by another one meanwhile.
 */
export type SaveOutcome = 'saved' | 'overlapped' | 'replaced' | 'handled'

/** How the storages of a class are asked, on its prototype. */
const kProvided = Symbol('fastify-botas-state.document-store')

interface Provided<S extends Storage = Storage> {
  prototype: S
  open: (storage: S) => DocumentStore
  name: string | undefined
}

const METHODS = ['read', 'write', 'delete', 'update', 'lease', 'commit', 'recall'] as const

/**
 * Says how turns ask the storages of a class of this package.
 *
 * @param name of a storage that has no class
 */
export function provideDocumentStore<S extends Storage> (prototype: S, open: (storage: S) => DocumentStore, name?: string): void {
  Object.defineProperty(prototype, kProvided, { value: { prototype, open, name } satisfies Provided<S> })
}

/** What an error calls a storage. */
export function nameOfStorage (storage: Storage): string {
  const { name } = (storage as { [kProvided]?: Provided })[kProvided] ?? {}
  return name ?? (storage.constructor as { name?: string } | undefined)?.name ?? 'a storage'
}

/** How turns ask a storage. One that overrides a method, such as a subclass or a wrapper, is asked by its public methods. */
export function documentStoreOf (storage: Storage): DocumentStore {
  const provided = (storage as { [kProvided]?: Provided })[kProvided]
  const isProvided = provided !== undefined && METHODS.every((method) => storage[method] === provided.prototype[method])
  return isProvided ? provided.open(storage) : foreignStore(storage)
}

/** Whether the turn was not refused. */
export function isSavedBy (outcome: SaveOutcome): boolean {
  return outcome === 'saved' || outcome === 'overlapped'
}

/** Notes what became of changes that were saved all or none. */
export function noteOutcome (changes: DocumentChange[], outcome: SaveOutcome): SaveOutcome {
  for (const change of changes) change.isSaved = isSavedBy(outcome)
  return outcome
}

/** Saves documents side by side. Settles when all is done, and rejects then with the first error. */
export async function saveEach (changes: DocumentChange[], save: (change: DocumentChange) => Promise<unknown>): Promise<'saved'> {
  const failures: unknown[] = []
  await Promise.all(changes.map((change) => save(change).then(() => { change.isSaved = true }, (error) => { failures.push(error) })))
  if (failures.length > 0) throw failures[0]
  return 'saved'
}

/**
 * Reads documents; one by one where that fails for a corrupt one, which concerns no other scope than its own.
 *
 * @param corrupted makes the document of a key that could not be read, and throws what is another error
 */
export async function readApart<D extends Document> (
  keys: string[], read: (keys: string[]) => Promise<Array<D | undefined>>, corrupted: (error: unknown, key: string) => D
): Promise<Array<D | undefined>> {
  try {
    return await read(keys)
  } catch (error) {
    const [first, ...others] = keys as [string]
    const document = corrupted(error, first)
    return others.length === 0 ? [document] : (await Promise.all(keys.map((key) => readApart([key], read, corrupted)))).flat()
  }
}
