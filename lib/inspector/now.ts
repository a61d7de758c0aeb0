/** How far the clocks may be apart, in milliseconds: a computer that slept, or was set, has another time than the even clock says. */
const MAX_DRIFT = 1000

let origin = performance.timeOrigin

/** In milliseconds since 1970, and parts of one. It goes on evenly, so that what came first is told to have come first. */
export function now (): number {
  if (Math.abs(Date.now() - origin - performance.now()) > MAX_DRIFT) origin = Date.now() - performance.now()
  return origin + performance.now()
}
