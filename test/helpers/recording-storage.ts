import { setTimeout as wait } from 'node:timers/promises'
import { MemoryStorage, type StateDocument, type Storage } from '../../lib/index.js'

type Method = 'read' | 'write' | 'delete' | 'update' | 'close'

/** A `MemoryStorage` that tells what it was asked for, and that can be slow or fail. */
export class RecordingStorage implements Storage {
  readonly calls: Array<[method: Method, keys: string[]]> = []
  readonly latency: Partial<Record<Method, number>> = {}
  readonly failures: Partial<Record<Method, Error | ((key: string) => Error | undefined)>> = {}
  readonly #storage = new MemoryStorage()

  async read (keys: string[]) {
    await this.#called('read', keys)
    return this.#storage.read(keys)
  }

  async write (changes: Record<string, unknown>) {
    await this.#called('write', Object.keys(changes))
    return this.#storage.write(changes)
  }

  async delete (keys: string[]) {
    await this.#called('delete', keys)
    return this.#storage.delete(keys)
  }

  async update (key: string, change: (current: StateDocument | undefined) => StateDocument | undefined) {
    await this.#called('update', [key])
    return this.#storage.update(key, change)
  }

  async close () {
    await this.#called('close', [])
  }

  /** How often a method was called. */
  count (method: Method) {
    return this.calls.filter(([name]) => name === method).length
  }

  /** What is stored under a key, past the record and the delays. */
  async stored (key: string): Promise<StateDocument | undefined> {
    return (await this.#storage.read([key]))[key]
  }

  /** Stores a document, past the record and the delays. */
  async store (key: string, document: StateDocument) {
    await this.#storage.write({ [key]: document })
  }

  async #called (method: Method, keys: string[]) {
    this.calls.push([method, keys])
    await wait(this.latency[method] ?? 0)
    const failure = this.failures[method]
    const error = typeof failure === 'function' ? failure(keys[0] ?? '') : failure
    if (error !== undefined) throw error
  }
}

/** A storage with no more than the three methods that every botas storage has. */
export function wholeDocuments (storage: RecordingStorage): Storage {
  return {
    read: (keys) => storage.read(keys),
    write: (changes) => storage.write(changes),
    delete: (keys) => storage.delete(keys)
  }
}
