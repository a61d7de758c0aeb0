import type { Cluster } from 'ioredis'

/** How long a server may leave commands without answer before it counts as silent, in milliseconds. */
export const MAX_SILENCE = 1000

/** What a client does not tell of the nodes of its Cluster. */
export class RedisNodes {
  readonly #cluster: Cluster
  /** the commands that wait for an answer, the oldest first */
  readonly #unanswered = new Set<{ since: number }>()
  #hungNodeTimer: NodeJS.Timeout | undefined

  constructor (cluster: Cluster) {
    this.#cluster = cluster
  }

  /**
   * A command is sent.
   *
   * @returns to be called when it is answered
   */
  sent (): () => void {
    const command = { since: performance.now() }
    this.#unanswered.add(command)
    this.#hungNodeTimer ??= setInterval(() => this.#lookForHungNode(), MAX_SILENCE / 2).unref()
    return () => {
      this.#unanswered.delete(command)
      if (this.#unanswered.size > 0) return
      clearInterval(this.#hungNodeTimer)
      this.#hungNodeTimer = undefined
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
