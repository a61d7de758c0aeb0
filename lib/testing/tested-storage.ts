import { type DocumentStore, type Entry, type Holds, enteredBy } from '../storage/document-store.js'
import type { Turns } from '../turn/turns.js'

/** What a test has put between the turns of a server and their storage. */
export interface TestedStorage {
  /** how many of the next operations fail */
  readonly failures: Record<'load' | 'save', number>
  /** is told of each load that is done */
  readonly onLoaded: Set<() => void>
}

const testedStorages = new WeakMap<Turns, TestedStorage>()

export function testedStorageOf (turns: Turns): TestedStorage {
  let tested = testedStorages.get(turns)
  if (tested === undefined) {
    const own: TestedStorage = tested = { failures: { load: 0, save: 0 }, onLoaded: new Set() }
    testedStorages.set(turns, own)
    turns.intercept((store) => testedStore(store, own))
  }
  return tested
}

function testedStore (store: DocumentStore, tested: TestedStorage): DocumentStore {
  const { holds } = store
  return {
    load: async (...call) => {
      failIfAsked(tested, 'load')
      return loaded(tested, await store.load(...call))
    },
    save: async (...call) => {
      failIfAsked(tested, 'save')
      return store.save(...call)
    },
    ...holds !== undefined && { holds: testedHolds(holds, tested) }
  }
}

/** A turn that holds something is loaded when it enters. */
function testedHolds (holds: Holds, tested: TestedStorage): Holds {
  return enteredBy(holds, async (...call) => {
    failIfAsked(tested, 'load')
    const entry = await holds.enter(...call)
    return isLoaded(entry) ? loaded(tested, entry) : entry
  })
}

/** What takes an activity alone loads nothing yet. */
function isLoaded (entry: Entry): boolean {
  return entry.outcome === 'entered' && entry.documents.length > 0
}

function loaded<Result> ({ onLoaded }: TestedStorage, result: Result): Result {
  for (const callback of onLoaded) callback()
  return result
}

function failIfAsked ({ failures }: TestedStorage, kind: 'load' | 'save'): void {
  if (failures[kind] === 0) return
  failures[kind]--
  throw new Error(`failNext(app, '${kind}') was called`)
}
