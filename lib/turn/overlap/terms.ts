import type { PlaceStrategy } from '../../storage/document-store.js'

/** What becomes of a turn that meets another one of its conversation. */
export type Strategy = 'parallel' | PlaceStrategy

export const STRATEGIES = ['parallel', 'queue', 'reject', 'replace'] as const satisfies Strategy[]

export function isStrategy (value: unknown): value is Strategy {
  return STRATEGIES.includes(value as Strategy)
}

/** How the turns of one conversation wait for each other. */
export interface PlaceLimits {
  /** The most turns of a conversation that wait in this process. */
  readonly maxWaiting: number
  /** How long a turn waits for its place, in milliseconds. */
  readonly maxWait: number
  /** How long the turns of a process that died keep their places, in milliseconds. */
  readonly lease: number
}

/** How an activity is handled once. */
export interface OnceLimits {
  /** How long it is remembered, in seconds. */
  readonly ttl: number
  /** The longest reply that is kept, in bytes. */
  readonly keepReply: number
  /** How long another delivery waits for the first one, in milliseconds. */
  readonly maxWait: number
}

/** An activity that is handled once. */
export interface OnceActivity {
  readonly id: string
  readonly limits: OnceLimits
}

/** On what terms a turn begins. */
export interface Terms {
  readonly strategy: Strategy
  readonly limits: PlaceLimits
  /** Left out where it is not handled once. */
  readonly activity: OnceActivity | undefined
}
