import type { Deployment } from './bot.js'

/**
 * The first version of the state: `{ "name": "Ada Lovelace", "visits": 1 }`. It names the member for the version already, so that a
 * rollback to it leaves newer documents alone.
 */
export const v1: Deployment = {
  documents: { user: { version: { key: 'schemaVersion' } } },

  answer ({ user }, name) {
    if (name !== undefined) user.set('name', name)
    const visits = user.update<number>('visits', (n = 0) => n + 1)
    return `Hello ${user.get<string>('name') ?? 'stranger'}, this is visit #${visits}.`
  }
}
