import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as wait } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import type { BotasStateOptions } from '../../lib/index.js'
import { buildFastify, settled } from '../helpers/build-fastify.js'
import { type Open, connect, openers } from '../helpers/cluster-storages.js'
import { type ClusterNode, type RedisCluster, startCluster } from '../helpers/redis-cluster.js'
import { spawned } from '../helpers/server-process.js'

/** A soak sets these higher. */
const SLOTS = Number(process.env.CLUSTER_SLOTS ?? 1000)
const FAILOVERS = Number(process.env.FAILOVERS ?? 1)

const CONVERSATIONS = 60
const keyOf = (conversation: number) => `test/bot/conversations/${conversation}`

const cluster = await startCluster(t)

/** Turns that count, on two servers, each as fast as a few workers run them, and a record of what became of them. */
class Load {
  /** how many turns succeeded, by conversation */
  readonly acknowledged = new Array<number>(CONVERSATIONS).fill(0)
  /** how many saves were reported as failed, by conversation */
  readonly reported = new Array<number>(CONVERSATIONS).fill(0)
  /** when a turn succeeded first that began after `restart` */
  resumed = new Array<number>(CONVERSATIONS).fill(Infinity)
  readonly failures: Record<string, number> = {}
  longest = 0
  #stopped = false
  #begun = 0
  readonly #workers: Promise<unknown>

  constructor (apps: FastifyInstance[]) {
    this.#workers = Promise.all(apps.flatMap((app) => Array.from({ length: 6 }, () => this.#work(app))))
  }

  /** Forgets when turns succeeded so far. */
  restart (): void {
    this.resumed = new Array<number>(CONVERSATIONS).fill(Infinity)
  }

  async stop (): Promise<void> {
    this.#stopped = true
    await this.#workers
  }

  get summary (): string {
    return `${sum(this.acknowledged)} turns, the longest took ${Math.round(this.longest)} ms, ${sum(this.reported)} saves ` +
      `reported as failed ${JSON.stringify(this.failures)}`
  }

  async #work (app: FastifyInstance): Promise<void> {
    while (!this.#stopped) {
      const id = Math.floor(Math.random() * CONVERSATIONS)
      const { resumed } = this
      const begun = performance.now()
      try {
        const identity = { channelId: 'test', botId: 'bot', conversationId: String(id), userId: String(id), activityId: String(this.#begun++) }
        await app.botasState.run(identity, ({ conversation, user }) => {
          conversation.update<number>('n', (n = 0) => n + 1)
          user.update<number>('n', (n = 0) => n + 1)
        })
        this.acknowledged[id]!++
        resumed[id] = Math.min(resumed[id] as number, performance.now())
      } catch (error) {
        const { code, cause } = error as Error & { code: string }
        if (code === 'FST_BOTAS_STATE_SAVE_FAILED') this.reported[id]!++
        const failure = `${code}: ${(cause as Error | undefined)?.message}`
        this.failures[failure] = (this.failures[failure] ?? 0) + 1
      }
      this.longest = Math.max(this.longest, performance.now() - begun)
      await wait(3)
    }
  }
}

/** Two servers, each with a client of its own: one whose turns are parallel, and one that queues them and handles each once. */
async function startLoad (t: Test, cluster: RedisCluster, open: Open, keyPrefix: string): Promise<Load> {
  const options: BotasStateOptions[] = [{}, { concurrency: { strategy: 'queue', lease: 1000 }, once: true }]
  const servers = await Promise.all(options.map((options) => buildFastify(t, { storage: open(t, cluster, { keyPrefix }), ...options }, () => {})))
  return new Load(servers.map(({ app }) => app))
}

async function storedCounts (t: Test, cluster: RedisCluster, keyPrefix: string): Promise<number[]> {
  const client = connect(t, cluster)
  const texts = await Promise.all(Array.from({ length: CONVERSATIONS }, (_, index) => client.get(keyPrefix + keyOf(index))))
  return texts.map((text) => JSON.parse(text ?? '{"n":0}').n)
}

/**
 * No turn may be counted that neither succeeded nor was reported, and none that succeeded may be missing. Replication is
 * asynchronous, though: of what a master acknowledged before it failed, some may be lost.
 *
 * @param failed the conversations of such a master
 * @returns how many were lost
 */
async function assertCounts (t: Test, cluster: RedisCluster, keyPrefix: string, load: Load, failed: number[] = []): Promise<number> {
  for (const failure of Object.keys(load.failures)) t.match(failure, /^FST_BOTAS_STATE_(LOAD|SAVE)_FAILED: /)
  const stored = await storedCounts(t, cluster, keyPrefix)
  const counts = stored.map((count, id) => ({ id, stored: count, acknowledged: load.acknowledged[id]!, reported: load.reported[id]! }))
  t.strictSame(counts.filter(({ stored, acknowledged, reported }) => stored > acknowledged + reported), [], 'none was counted twice')
  const lost = counts.filter(({ stored, acknowledged }) => stored < acknowledged)
  t.strictSame(lost.filter(({ id }) => !failed.includes(id)), [], 'none was lost')
  return sum(lost.map(({ stored, acknowledged }) => acknowledged - stored))
}

function sum (numbers: number[]): number {
  return numbers.reduce((one, other) => one + other, 0)
}

/** Moves slots with all that is in them, as an operator does. */
async function reshard (from: ClusterNode, to: ClusterNode): Promise<void> {
  const child = spawn('redis-cli', ['--cluster', 'reshard', `127.0.0.1:${from.port}`, '--cluster-from', from.id,
    '--cluster-to', to.id, '--cluster-slots', String(SLOTS), '--cluster-yes',
    // As slowly as can be, so that clients meet slots on their way.
    '--cluster-pipeline', '1'], { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  await spawned('redis-cli', child)
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => { output += chunk })
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`redis-cli: ${output.slice(-1000)}`)
}

/** How often the nodes sent a client to another one. */
async function redirections ({ nodes }: RedisCluster): Promise<{ moved: number, ask: number }> {
  const stats = (await Promise.all(nodes.map((node) => node.ask('INFO', 'errorstats')))).join()
  const count = (name: string) => sum([...stats.matchAll(new RegExp(`errorstat_${name}:count=(\\d+)`, 'g'))].map(([, n]) => Number(n)))
  return { moved: count('MOVED'), ask: count('ASK') }
}

t.test('while slots are moved under load', async (t) => {
  const masters = cluster.nodes.slice(0, 2) as [ClusterNode, ClusterNode]
  for (const [name, open] of openers) {
    await t.test(`no turn fails and every one is counted once, with ${name}`, async (t) => {
      // With so much beside them, the counters are on two nodes at once for a while.
      await cluster.empty()
      const client = connect(t, cluster)
      await Promise.all(Array.from({ length: CONVERSATIONS * 200 }, (_, index) =>
        client.set(`{botas:${keyOf(index % CONVERSATIONS)}}${index}`, 'x'.repeat(1000))))
      await Promise.all(cluster.nodes.map((node) => node.ask('CONFIG', 'RESETSTAT')))
      const load = await startLoad(t, cluster, open, 'botas:')
      await wait(200)
      const begun = performance.now()
      await reshard(...masters)
      const duration = performance.now() - begun
      await wait(200)
      await load.stop()
      masters.reverse()

      t.strictSame(load.failures, {})
      t.strictSame(await storedCounts(t, cluster, 'botas:'), load.acknowledged)
      const { moved, ask } = await redirections(cluster)
      t.ok(moved + ask > 0, 'clients were sent to other nodes')
      t.comment(`${SLOTS} slots in ${Math.round(duration)} ms, ${moved} times MOVED, ${ask} times ASK; ${load.summary}`)
    })
  }
})

t.test('while nodes close connections under load', async (t) => {
  for (const [name, open] of openers) {
    await t.test(`every turn is counted once or reported, with ${name}`, async (t) => {
      await cluster.empty()
      const load = await startLoad(t, cluster, open, 'botas:')
      for (let round = 0; round < 10; round++) {
        await wait(100)
        await Promise.all(cluster.nodes.map((node) => node.ask('CLIENT', 'KILL', 'TYPE', 'normal')))
      }
      const before = sum(load.acknowledged)
      await settled(() => sum(load.acknowledged) > before + 200)
      await load.stop()
      await assertCounts(t, cluster, 'botas:', load)
      t.comment(load.summary)
    })
  }
})

const failovers: Array<[what: string, signal: 'SIGKILL' | 'SIGSTOP', concerned: typeof openers]> = [
  ['is killed', 'SIGKILL', openers],
  ['hangs', 'SIGSTOP', openers]
]

for (const [what, signal, concerned] of Array.from({ length: FAILOVERS }, () => failovers).flat()) {
  t.test(`when a master ${what} under load, and its replica takes over`, async (t) => {
    const cluster = await startCluster(t)
    const [victim, , , replica] = cluster.nodes as [ClusterNode, ClusterNode, ClusterNode, ClusterNode]
    const ids = Array.from({ length: CONVERSATIONS }, (_, index) => index)
    const runs = await Promise.all(concerned.map(async ([name, open], index) => {
      const keyPrefix = `${index}:`
      const masters = await cluster.mastersOf(ids.map((id) => keyPrefix + keyOf(id)))
      return { name, keyPrefix, ofVictim: ids.filter((id) => masters[id] === victim), load: await startLoad(t, cluster, open, keyPrefix) }
    }))
    await wait(500)
    const begun = performance.now()
    await victim.kill(signal)
    await settled(async () => /^role:master/m.test(await replica.ask('INFO', 'replication') as string), 20_000)
    const failover = performance.now() - begun
    for (const { load } of runs) load.restart()
    const isResumed = (): boolean => runs.every(({ load, ofVictim }) => ofVictim.every((id) => load.resumed[id] !== Infinity))
    await settled(isResumed, 15_000).catch(() => {})
    const resumed = runs.map(({ load, ofVictim }) => Math.max(...ofVictim.map((id) => load.resumed[id] as number)) - begun)
    if (signal === 'SIGSTOP') {
      // What had been sent to it by then is carried out, before it learns that it is master no more.
      await victim.kill('SIGCONT')
      await settled(async () => /^role:slave[^]*master_link_status:up/m.test(await victim.ask('INFO', 'replication') as string), 10_000)
    }
    await wait(300)
    await Promise.all(runs.map(({ load }) => load.stop()))

    for (const [index, { name, keyPrefix, ofVictim, load }] of runs.entries()) {
      const duration = resumed[index] as number
      await t.test(`turns go on, with ${name}`, async (t) => {
        t.ok(ofVictim.length > 0)
        t.ok(duration < 10_000, `on all keys of that master after ${Math.round(duration)} ms`)
      })
      await t.test(`every turn is counted once or reported, with ${name}`, async (t) => {
        const lost = await assertCounts(t, cluster, keyPrefix, load, ofVictim)
        t.comment(`the replica took over after ${Math.round(failover)} ms, turns on its keys worked after ${Math.round(duration)} ms; ` +
          `${load.summary}; ${lost} acknowledged turns lost`)
      })
    }
  })
}
