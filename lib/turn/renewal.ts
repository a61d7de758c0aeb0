import type { Hold, Holds } from '../storage/document-store.js'

/** How often a turn asks that may be replaced by one of another process, in milliseconds. */
const WATCH_INTERVAL = 100

/**
 * Renews what a turn holds at a third of its lease; one that may be replaced looks more often whether it was.
 *
 * @param held what is to be renewed now
 * @param lost is told when the place is not held any more
 * @returns stops it
 */
export function renewRegularly (holds: Holds, held: () => Hold, lost: () => void): () => void {
  const { place, lease } = held()
  let isAsking = false
  const renew = async (): Promise<void> => {
    if (isAsking) return
    isAsking = true
    // A storage that cannot be reached says nothing of the place.
    const isHeld = await holds.renew(held()).catch(() => true)
    isAsking = false
    if (!isHeld) lost()
  }
  const timer = setInterval(renew, place?.isReplaceable === true ? Math.min(WATCH_INTERVAL, lease / 3) : lease / 3).unref()
  return () => clearInterval(timer)
}
