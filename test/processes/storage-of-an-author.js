// What the author of a storage writes to test it, here with node:test: one storage with `update`, and one without.
import { describe, test } from 'node:test'
import { conformance } from 'fastify-botas-state/conformance'

class MapStorage {
  texts = new Map()

  async read (keys) {
    const stored = keys.filter((key) => this.texts.has(key))
    return Object.fromEntries(stored.map((key) => [key, JSON.parse(this.texts.get(key))]))
  }

  async write (documents) {
    for (const [key, document] of Object.entries(documents)) this.texts.set(key, JSON.stringify(document))
  }

  async delete (keys) {
    for (const key of keys) this.texts.delete(key)
  }
}

class UpdatingStorage extends MapStorage {
  async update (key, change) {
    const text = this.texts.get(key)
    const next = change(text && JSON.parse(text))
    if (next === undefined) this.texts.delete(key)
    else this.texts.set(key, JSON.stringify(next))
  }
}

describe('with update', () => conformance(test, () => new UpdatingStorage()))
describe('without', () => conformance(test, () => new MapStorage(), { update: false }))
