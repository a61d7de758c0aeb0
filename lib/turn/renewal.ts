import type { Hold, Holds } from '../storage/document-store.js'
import type { StorageCall } from '../storage/storage.js'
import { withDeadline } from '../waiting/deadline.js'

/** How often a turn asks that may be replaced by one of another process, in milliseconds. */
const WATCH_INTERVAL = 100

/**
 * Renews what a turn holds at a third of its lease; one that may be replaced looks more often whether it was.
 *
 * @param held what is to be renewed now
 * @param lost is told when the place is not held any more
 * @returns stops it; resolves when the last renewal is over, if one is under way
 */
export function renewRegularly (holds: Holds, held: () => Hold, lost: () => void): () => Promise<void> | undefined {
  const { place, lease } = held()
  const third = lease / 3
  // One that hangs leaves time for another one.
  const patience = third / 2
  let renewal: Promise<void> | undefined
  const renew = async (): Promise<void> => {
    // A storage that cannot be reached says nothing of the place.
    const isHeld = await withDeadline(holds.renew(held(), callFor(patience)), patience).catch(() => true)
    renewal = undefined
    if (!isHeld) lost()
  }
  const interval = place?.isReplaceable === true ? Math.min(WATCH_INTERVAL, third) : third
  const timer = setInterval(() => { renewal ??= renew() }, interval).unref()
  return () => {
    clearInterval(timer)
    return renewal
  }
}

/** Gives back what a turn held, which no renewal may take again. What the storage cannot be told in time, it knows by itself. */
export async function leaveAfter (renewal: Promise<void> | undefined, holds: Holds, hold: Hold): Promise<void> {
  if (renewal !== undefined) await renewal
  await holds.leave(hold, callFor(hold.lease)).catch(() => {})
}

function callFor (milliseconds: number): StorageCall {
  return { signal: AbortSignal.timeout(Math.ceil(milliseconds)), timeout: milliseconds, retrying () {} }
}
