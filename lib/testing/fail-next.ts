import type { DocumentStore, Holds } from '../storage/document-store.js'
import type { Turns } from '../turn/turns.js'
import { type TestedApp, turnsOf } from './tested-app.js'

/** How many of the next operations fail. */
type Failures = Record<'load' | 'save', number>

const failuresOf = new WeakMap<Turns, Failures>()

/**
 * Makes the next load, or the next save, of a server fail as if its storage had failed: nothing of it reaches the storage. Called
 * twice, it makes two of them fail.
 *
 * @example
 * await failNext(app, 'save')
 * assert.equal((await ada.says('Hi')).statusCode, 500)    // with flush: 'onSend'
 *
 * @param app with the plugin
 * @param kind a turn that changes nothing saves nothing
 */
export async function failNext (app: TestedApp, kind: 'load' | 'save'): Promise<void> {
  const turns = await turnsOf(app)
  let failures = failuresOf.get(turns)
  if (failures === undefined) {
    const own: Failures = failures = { load: 0, save: 0 }
    failuresOf.set(turns, own)
    turns.intercept((store) => failing(store, own))
  }
  failures[kind]++
}

function failing (store: DocumentStore, failures: Failures): DocumentStore {
  const { holds } = store
  return {
    load: async (...call) => {
      failIfAsked(failures, 'load')
      return store.load(...call)
    },
    save: async (...call) => {
      failIfAsked(failures, 'save')
      return store.save(...call)
    },
    ...holds !== undefined && { holds: failingHolds(holds, failures) }
  }
}

/** A turn that holds something is loaded when it enters. */
function failingHolds (holds: Holds, failures: Failures): Holds {
  const { isShared, remembers, isLeftBySave } = holds
  return {
    isShared,
    remembers,
    isLeftBySave,
    enter: async (...call) => {
      failIfAsked(failures, 'load')
      return holds.enter(...call)
    },
    renew: (...call) => holds.renew(...call),
    leave: (...call) => holds.leave(...call)
  }
}

function failIfAsked (failures: Failures, kind: 'load' | 'save'): void {
  if (failures[kind] === 0) return
  failures[kind]--
  throw new Error(`failNext(app, '${kind}') was called`)
}
