import { setTimeout as wait } from 'node:timers/promises'
import type { Commit, CommitOutcome, StateDocument, Storage } from '../../lib/index.js'

interface Kept {
  holder: string
  until: number
}

/** What a server of somebody's keeps, for all who are connected to it. */
export interface Server {
  readonly documents: Map<string, string>
  readonly leases: Map<string, Kept>
  readonly records: Map<string, Kept>
}

export function newServer (): Server {
  return { documents: new Map(), leases: new Map(), records: new Map() }
}

/** A storage of somebody's with all optional methods, on a server that takes its time. */
export class LeasingStorage implements Storage {
  readonly #server: Server
  readonly #latency: number

  /** @param latency of every call, in milliseconds */
  constructor (server: Server = newServer(), latency = 2) {
    this.#server = server
    this.#latency = latency
  }

  async read (keys: string[]) {
    await wait(this.#latency)
    return Object.fromEntries(keys.flatMap((key) => {
      const document = this.#stored(key)
      return document === undefined ? [] : [[key, document]]
    }))
  }

  async write (changes: Record<string, unknown>) {
    await wait(this.#latency)
    for (const [key, document] of Object.entries(changes)) this.#server.documents.set(key, JSON.stringify(document))
  }

  async delete (keys: string[]) {
    await wait(this.#latency)
    for (const key of keys) this.#server.documents.delete(key)
  }

  async update (key: string, change: (current: StateDocument | undefined) => StateDocument | undefined) {
    await this.commit({ changes: [{ key, change }] })
  }

  async lease (name: string, holder: string, milliseconds: number, instead?: string) {
    await wait(this.#latency)
    const { leases } = this.#server
    const current = this.#holderOf(name)
    if (current !== undefined && current !== holder && current !== instead) return current
    if (milliseconds > 0) leases.set(name, { holder, until: Date.now() + milliseconds })
    else leases.delete(name)
    return this.#holderOf(name)
  }

  async commit ({ changes, lease, record }: Commit): Promise<CommitOutcome> {
    await wait(this.#latency)
    if (lease !== undefined && this.#holderOf(lease.name) !== lease.holder) return 'lost'
    if (record !== undefined && this.#textOf(record.name) !== undefined) return 'recorded'
    const changed = changes.map(({ key, change }) => [key, JSON.stringify(change(this.#stored(key)))] as const)
    for (const [key, text] of changed) {
      if (text === undefined) this.#server.documents.delete(key)
      else this.#server.documents.set(key, text)
    }
    if (record !== undefined) this.#server.records.set(record.name, { holder: record.text, until: Date.now() + record.seconds * 1000 })
    return 'committed'
  }

  async recall (name: string) {
    await wait(this.#latency)
    return this.#textOf(name)
  }

  #stored (key: string): StateDocument | undefined {
    const text = this.#server.documents.get(key)
    return text === undefined ? undefined : JSON.parse(text)
  }

  #holderOf (name: string): string | undefined {
    return unexpired(this.#server.leases.get(name))
  }

  #textOf (name: string): string | undefined {
    return unexpired(this.#server.records.get(name))
  }
}

function unexpired (kept: Kept | undefined): string | undefined {
  return kept !== undefined && kept.until > Date.now() ? kept.holder : undefined
}

/** The same with leases only: documents are saved one by one. */
export class LeasesOnly implements Storage {
  readonly #storage: LeasingStorage
  readonly read: LeasingStorage['read']
  readonly write: LeasingStorage['write']
  readonly delete: LeasingStorage['delete']
  readonly update: LeasingStorage['update']
  lease: LeasingStorage['lease']

  constructor (server: Server, latency = 2) {
    this.#storage = new LeasingStorage(server, latency)
    const { read, write, delete: remove, update, lease } = this.#storage
    this.read = read.bind(this.#storage)
    this.write = write.bind(this.#storage)
    this.delete = remove.bind(this.#storage)
    this.update = update.bind(this.#storage)
    this.lease = lease.bind(this.#storage)
  }
}
