// Not the global one, which users' tests replace: commands would never leave.
import { setImmediate } from 'node:timers'
import { setTimeout as wait } from 'node:timers/promises'
import type { Cluster, Redis } from 'ioredis'
import { type Link, OutageGate } from '../outage-gate.js'
import type { OutageObserver, StorageCall } from '../storage.js'
import type { RedisClient } from './client.js'
import { failureOf, reasonOf, withoutArguments } from './errors.js'
import { MAX_SILENCE, RedisNodes } from './nodes.js'

/** How long to wait for a server to say goodbye, in milliseconds. */
const QUIT_TIMEOUT = 300

const connections = new WeakMap<RedisClient, RedisConnection>()

/** The connection of a client, the same for all storages that use it. */
export function connectionOf (client: RedisClient): RedisConnection {
  const connection = connections.get(client) ?? new RedisConnection(client)
  connections.set(client, connection)
  return connection
}

/** A client of ioredis behind a gate: it tells of its connections, and makes them again, by itself. */
export class RedisConnection {
  readonly #client: RedisClient
  readonly #gate: OutageGate
  /** of a Cluster */
  readonly #nodes: RedisNodes | undefined
  #brokenAt = -Infinity

  constructor (client: RedisClient) {
    this.#client = client
    this.#gate = new OutageGate(linkOf(client))
    client.on('error', (error: Error) => this.#gate.begin(reasonOf(error)))
    const onBroken = (): void => { this.#brokenAt = performance.now() }
    client.on('close', onBroken)
    client.on('close', () => this.#gate.fail((call) => call === undefined))
    if (client.isCluster) this.#nodes = new RedisNodes(client as Cluster, onBroken)
    client.on('ready', () => this.#gate.end())
    client.on('end', () => this.#onEnd())
    if (client.status === 'end') this.#onEnd()
  }

  /** Tells of every outage, also of the one that is going on. */
  watch (observer: OutageObserver): () => void {
    return this.#gate.watch(observer)
  }

  /** Whether it broke lately, or on a Cluster one to a node did, within so many milliseconds. */
  brokeWithin (milliseconds: number): boolean {
    return performance.now() - this.#brokenAt < milliseconds
  }

  /** Sends QUIT, and waits briefly. */
  async close (): Promise<void> {
    this.#gate.close()
    const quit = this.#client.status === 'ready' ? this.#client.quit().catch(() => {}) : undefined
    await Promise.race([quit, wait(QUIT_TIMEOUT, undefined, { ref: false })])
    this.#client.disconnect()
  }

  /** Sends a command, see `OutageGate`. */
  send<Result> (command: () => Promise<Result>, call?: StorageCall): Promise<Result> {
    if (this.#client.status === 'wait') this.#client.connect().catch(() => {})
    return this.#gate.send(() => this.#sendNow(command), call)
  }

  #sendNow<Result> (command: () => Promise<Result>): Promise<Result> {
    if (this.#nodes !== undefined) return this.#nodes.send(command)
    corkUntilImmediate(this.#client as Redis)
    return command()
  }

  #onEnd (): void {
    this.#gate.begin(new Error(`${SERVER}: the client was closed`))
    this.#gate.fail(() => true)
  }
}

const SERVER = 'Redis'

function linkOf (client: RedisClient): Link {
  return {
    server: SERVER,
    maxSilence: MAX_SILENCE,
    status: () => client.status === 'end' ? 'closed' : client.status === 'ready' ? 'open' : 'opening',
    // A master that hangs does not answer for the others.
    ping: () => client.isCluster ? Promise.race((client as Cluster).nodes('master').map((node) => node.ping())) : client.ping(),
    failureOf: (error) => failureOf(error, client.isCluster),
    cleaned: withoutArguments
  }
}

/**
 * What is asked for until the next turn of the event loop is sent in one go. (With `enableAutoPipelining` ioredis does
 * that, too, but slower where few commands are in flight: https://github.com/redis/ioredis/issues/1239)
 */
function corkUntilImmediate ({ stream }: Partial<Redis>): void {
  // A client that has never been connected has none.
  if (stream?.writableCorked !== 0) return
  stream.cork()
  setImmediate(() => stream.uncork())
}
