import type { Upgrade } from 'fastify-botas-state'
import { z } from 'zod'
import type { Deployment } from './bot.js'
import { partsOf, splitName } from './state-v2.js'

/** The current version: what every document has to be like once it is upgraded, and before it is saved. */
const visitor = z.object({
  first: z.string().optional(),
  last: z.string().optional(),
  visits: z.object({ count: z.int().positive(), latest: z.iso.datetime().optional() })
})

type Visits = z.infer<typeof visitor>['visits']

/** The third version knows when the latest visit was. Of old visits nobody knows: an upgrade is pure, and asks no clock. */
export const dateVisits: Upgrade = (document) => ({ ...document, visits: { count: document.visits } })

export const v3: Deployment = {
  documents: { user: { schema: visitor, version: { key: 'schemaVersion', upgrades: { 2: splitName, 3: dateVisits } } } },

  answer ({ user }, name) {
    if (name !== undefined) for (const [part, value] of Object.entries(partsOf(name))) user.set(part, value)
    const before = user.get<Visits>('visits')?.latest
    const latest = new Date().toISOString()
    const { count } = user.update<Visits>('visits', (visits) => ({ count: (visits?.count ?? 0) + 1, latest }))
    return `Hello ${user.get<string>('first') ?? 'stranger'}, this is visit #${count}${before === undefined ? '' : `, the latest was at ${before}`}.`
  }
}
