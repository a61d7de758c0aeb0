import type { Document } from '../document/document.js'
import type { Entry, Hold, Holds, SaveOutcome, TurnEnd } from './document-store.js'
import type { Commit, Storage, StorageCall } from './storage.js'

/** Stands between the name of a holder that a later turn may replace, and when that arrived. */
const REPLACEABLE = '~'

/** What a storage holds for turns that has the methods `lease`, or `commit` and `recall`; nothing where it has neither. */
export function foreignHolds (
  storage: Storage, load: (keys: string[], call: StorageCall) => Promise<Array<Document | undefined>>
): Holds | undefined {
  if (storage.lease === undefined && storage.commit === undefined) return undefined
  return {
    isShared: storage.lease !== undefined || undefined,
    remembers: storage.commit !== undefined && storage.recall !== undefined,
    isLeftBySave: false,
    enter: async (hold, keys, call) =>
      await claimed(storage, hold, call) ?? await placed(storage, hold, call) ?? { outcome: 'entered', documents: await load(keys, call) },
    async renew (hold, call) {
      if (hold.activity !== undefined) await storage.lease?.(activityName(hold), hold.holder, hold.lease, undefined, call)
      return hold.place === undefined || await holdsPlace(storage, hold, call)
    },
    async leave (hold, call) {
      if (hold.place !== undefined) await storage.lease?.(placeName(hold), holderOf(hold), 0, undefined, call)
      if (hold.activity !== undefined) await storage.lease?.(activityName(hold), hold.holder, 0, undefined, call)
    }
  }
}

/** @returns why the activity is not this turn's to handle */
async function claimed (storage: Storage, hold: Hold, call: StorageCall): Promise<Entry | undefined> {
  if (hold.activity === undefined) return undefined
  const reply = await storage.recall?.(activityName(hold), call)
  if (reply !== undefined) return { outcome: 'done', reply }
  let holder = await storage.lease?.(activityName(hold), hold.holder, hold.lease, undefined, call)
  if (isOfThisProcess(holder, hold)) holder = await storage.lease?.(activityName(hold), hold.holder, hold.lease, holder, call)
  return holder === undefined || holder === hold.holder ? undefined : { outcome: 'running' }
}

/** @returns why the place is not this turn's */
async function placed (storage: Storage, hold: Hold, call: StorageCall): Promise<Entry | undefined> {
  if (hold.place === undefined || storage.lease === undefined) return undefined
  const { strategy } = hold.place
  let holder = await storage.lease(placeName(hold), holderOf(hold), hold.lease, undefined, call)
  const isReplaceable = strategy === 'replace' && holder?.includes(REPLACEABLE) === true
  if (isOfLaterTurn(holder, hold) || (isReplaceable && arrivalOf(holder as string) > hold.arrived)) return { outcome: 'replaced' }
  if (holder !== holderOf(hold) && (isReplaceable || isOfThisProcess(holder, hold))) holder = await storage.lease(placeName(hold), holderOf(hold), hold.lease, holder, call)
  if (holder === holderOf(hold)) return undefined
  return { outcome: strategy === 'reject' ? 'taken' : 'waiting' }
}

/** The turns of this process have waited for each other before: what an earlier one of them holds it did not give back. */
function isOfThisProcess (holder: string | undefined, { origin, holder: own }: Hold): boolean {
  return holder?.startsWith(origin) === true && numberOf(holder, origin) < numberOf(own, origin)
}

function isOfLaterTurn (holder: string | undefined, { origin, holder: own }: Hold): boolean {
  return holder?.startsWith(origin) === true && numberOf(holder, origin) > numberOf(own, origin)
}

function arrivalOf (holder: string): number {
  return Number(holder.slice(holder.indexOf(REPLACEABLE) + 1))
}

function numberOf (holder: string, origin: string): number {
  return Number.parseInt(holder.slice(origin.length), 10)
}

/** Saves documents. The storage does not compare them with what is held: it is asked before. */
export async function saveHeld (
  storage: Storage, end: TurnEnd | undefined, call: StorageCall, save: () => Promise<'saved'>
): Promise<SaveOutcome> {
  if (end?.hold.place === undefined) return save()
  const isHeld = await holdsPlace(storage, end.hold, call)
  if (!isHeld && end.hold.place.isReplaceable) return 'replaced'
  await save()
  return isHeld ? 'saved' : 'overlapped'
}

/** Saves documents and the reply to an activity in one step, which is refused where the place was lost. */
export async function commitHeld (
  storage: Storage, changes: Commit['changes'], call: StorageCall, end: TurnEnd | undefined
): Promise<SaveOutcome> {
  const { commit } = storage as Storage & Required<Pick<Storage, 'commit'>>
  const record = end?.reply === undefined
    ? {}
    : { record: { name: activityName(end.hold), text: end.reply, seconds: end.hold.activity?.ttl as number } }
  const fence = end?.hold.place !== undefined && storage.lease !== undefined ? { lease: { name: placeName(end.hold), holder: holderOf(end.hold) } } : {}
  let outcome = await commit.call(storage, { changes, ...record, ...fence }, call)
  let isOverlapped = false
  if (outcome === 'lost' && end?.hold.place?.isReplaceable !== true) {
    isOverlapped = true
    outcome = await commit.call(storage, { changes, ...record }, call)
  }
  if (outcome !== 'committed') return outcome === 'lost' ? 'replaced' : 'handled'
  return isOverlapped ? 'overlapped' : 'saved'
}

async function holdsPlace (storage: Storage, hold: Hold, call: StorageCall): Promise<boolean> {
  return await storage.lease?.(placeName(hold), holderOf(hold), hold.lease, undefined, call) === holderOf(hold)
}

function holderOf ({ holder, place, arrived }: Hold): string {
  return place?.strategy === 'replace' ? holder + REPLACEABLE + arrived : holder
}

function placeName ({ key }: Hold): string {
  return `place:${key}`
}

/** Names what is kept of an activity. */
export function activityName ({ key, activity }: Hold): string {
  return `activity:${key}:${encodeURIComponent(String(activity?.id))}`
}
