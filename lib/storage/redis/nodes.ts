import type { Cluster, Redis } from 'ioredis'
import { failureOf } from './errors.js'

/** How long a server may leave commands without answer before it counts as silent, in milliseconds. */
export const MAX_SILENCE = 1000

/** What a client does not tell of the nodes of its Cluster. */
export class RedisNodes {
  readonly #cluster: Cluster
  /** the commands that wait for an answer, the oldest first */
  readonly #unanswered = new Set<{ since: number }>()
  #hungNodeTimer: NodeJS.Timeout | undefined

  /** @param onBroken is called when the connection to any node breaks: the Cluster itself tells only of the last one */
  constructor (cluster: Cluster, onBroken: () => void) {
    this.#cluster = cluster
    for (const node of cluster.nodes('all')) node.on('close', onBroken)
    cluster.on('+node', (node: Redis) => node.on('close', onBroken))
  }

  /** Sends a command, and learns the map of the Cluster anew where that fails: pipelines do not follow MOVED by themselves. */
  async send<Result> (command: () => Promise<Result>): Promise<Result> {
    const sent = { since: performance.now() }
    this.#unanswered.add(sent)
    this.#hungNodeTimer ??= setInterval(() => this.#lookForHungNode(), MAX_SILENCE / 2).unref()
    try {
      return await command()
    } catch (error) {
      if (failureOf(error as Error, true) !== 'final') this.#cluster.refreshSlotsCache()
      throw error
    } finally {
      this.#unanswered.delete(sent)
      if (this.#unanswered.size === 0) {
        clearInterval(this.#hungNodeTimer)
        this.#hungNodeTimer = undefined
      }
    }
  }

  /**
   * A node that hangs keeps its connections: https://github.com/redis/ioredis/issues/559. Once the others have put a replica in
   * its place, a client that asks them closes the connection, and what waits for an answer is sent again.
   */
  #lookForHungNode (): void {
    const [oldest] = this.#unanswered
    if (oldest !== undefined && performance.now() - oldest.since > MAX_SILENCE) this.#cluster.refreshSlotsCache()
  }
}
