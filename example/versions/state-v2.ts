import type { Upgrade } from 'fastify-botas-state'
import type { Deployment } from './bot.js'

/** The second version splits the name: `{ "first": "Ada", "last": "Lovelace", "visits": 1, "schemaVersion": 2 }`. */
export const splitName: Upgrade = ({ name, ...rest }) => typeof name === 'string' ? { ...rest, ...partsOf(name) } : rest

export const v2: Deployment = {
  documents: { user: { version: { key: 'schemaVersion', upgrades: { 2: splitName } } } },

  answer ({ user }, name) {
    if (name !== undefined) for (const [part, value] of Object.entries(partsOf(name))) user.set(part, value)
    const visits = user.update<number>('visits', (n = 0) => n + 1)
    return `Hello ${user.get<string>('first') ?? 'stranger'}, this is visit #${visits}.`
  }
}

/** The last word is the last name; a single name has no last name. */
export function partsOf (name: string): { first: string, last?: string | undefined } {
  const words = name.split(' ')
  const last = words.length > 1 ? words.pop() : undefined
  return { first: words.join(' '), last }
}
