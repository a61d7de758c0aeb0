/**
 * How long a turn is remembered that did not leave its place when its time had passed, in milliseconds: its process may have hung for
 * so long.
 */
export const LOST_LIFETIME = 3_600_000

/** How long a turn stands in line without asking again, from and to, in milliseconds: a process may have died. */
const MIN_WAITER_LIFETIME = 500
const MAX_WAITER_LIFETIME = 2000

/** How long a turn stands in line without asking again, in milliseconds. */
export function waiterLifetime (lease: number): number {
  return Math.min(Math.max(lease, MIN_WAITER_LIFETIME), MAX_WAITER_LIFETIME)
}
