import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, type Socket, connect as netConnect, createServer } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { Cluster } from 'ioredis'
import t, { type Test } from 'tap'
import { RedisStorage, type RedisStorageOptions } from '../../../../lib/storage/redis/redis-storage.js'
import { message } from '../../../helpers/activities.js'
import { buildFastify, post, settled } from '../../../helpers/build-fastify.js'
import { startProcess } from '../../../helpers/node-process.js'
import { type ClusterNode, type RedisCluster, prepareCluster, startCluster } from '../../../helpers/redis-cluster.js'
import { storageSuite } from '../../../helpers/storage-suite.js'

/** A soak sets these higher. */
const SLOTS = Number(process.env.CLUSTER_SLOTS ?? 1000)
const FAILOVERS = Number(process.env.FAILOVERS ?? 1)

const CONVERSATIONS = 60
const keyOf = (conversation: number) => `test/bot/conversations/${conversation}`

/** A client of the user's. */
function connect (t: Test, { addresses }: RedisCluster, options: ConstructorParameters<typeof Cluster>[1] = {}): Cluster {
  const client = new Cluster(addresses, options)
  t.teardown(() => client.disconnect())
  return client
}

/** A storage on a client of its own. */
type Open = (t: Test, cluster: RedisCluster, options: RedisStorageOptions) => RedisStorage

const openers: Array<[name: string, open: Open]> = [
  ['a Cluster client', (t, cluster, options) => new RedisStorage(connect(t, cluster), options)],
  ['a Cluster client with enableAutoPipelining', (t, cluster, options) =>
    new RedisStorage(connect(t, cluster, { enableAutoPipelining: true }), options)],
  ['a URL of several nodes', (t, { url }, options) => {
    const storage = new RedisStorage(url, options)
    t.teardown(() => storage.close())
    return storage
  }]
]

const cluster = await startCluster(t)

t.test('on a Cluster', { jobs: openers.length }, async (t) => {
  // Each with keys of its own, so that they can run side by side.
  await Promise.all(openers.map(([name, open]) => t.test(`with ${name}`, { buffered: true }, async (t) => {
    storageSuite(t, (t, options) => open(t, cluster, { ...options, keyPrefix: `${t.fullname}:` }))
  })))

  await t.test('a turn whose documents are on different nodes is loaded and saved, one key a command', async (t) => {
    await cluster.empty()
    const users = Array.from({ length: 20 }, (_, index) => `user-${index}`)
    const [ofConversation, ...ofUsers] = await cluster.mastersOf(
      ['conversations/conversation-1', ...users.map((user) => `users/${user}`)].map((key) => `botas:test/bot/${key}`))
    const user = users.find((_, index) => ofUsers[index] !== ofConversation) as string
    const { url } = await buildFastify(t, { storage: cluster.url, flush: 'onSend' }, (app) => {
      app.post('/', async ({ state: { conversation, user } }) => ({
        conversation: conversation.update<number>('n', (n = 0) => n + 1),
        user: user.update<number>('n', (n = 0) => n + 1)
      }))
    })
    // Also the commands that a script takes which the node does not know.
    await Promise.all(cluster.nodes.map((node) => node.ask('SCRIPT', 'FLUSH').then(() => node.ask('CONFIG', 'RESETSTAT'))))
    for (const n of [1, 2, 3]) t.match(await post(url, message({ user })), { status: 200, body: { conversation: n, user: n } })
    const commands = new Set<string>()
    for (const node of cluster.nodes.slice(0, 3)) {
      const stats = await node.ask('INFO', 'commandstats') as string
      for (const [, command] of stats.matchAll(/cmdstat_(\w+)/g)) commands.add(command as string)
    }
    // What introduces the clients to the nodes, and the nodes to their replicas, has no keys.
    for (const command of ['client', 'cluster', 'config', 'hello', 'info', 'ping', 'psync', 'quit', 'readonly', 'replconf', 'script']) commands.delete(command)
    t.strictSame([...commands].sort(), ['eval', 'evalsha', 'get', 'set'], 'the last one within the script')
  })
})

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
        await app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: String(id) }, ({ conversation }) => {
          conversation.update<number>('n', (n = 0) => n + 1)
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

/** Two servers, each with a client of its own. */
async function startLoad (t: Test, cluster: RedisCluster, open: Open, keyPrefix: string): Promise<Load> {
  const servers = await Promise.all([1, 2].map(() => buildFastify(t, { storage: open(t, cluster, { keyPrefix }) }, () => {})))
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

t.test('a master that hangs does not hold up what is on the others', async (t) => {
  const cluster = await startCluster(t)
  // Otherwise the healthy masters refuse all commands until the replica has taken over.
  await Promise.all(cluster.nodes.map((node) => node.ask('CONFIG', 'SET', 'cluster-require-full-coverage', 'no')))
  const keys = Array.from({ length: 20 }, (_, index) => `key-${index}`)
  const masters = await cluster.mastersOf(keys.map((key) => `botas:${key}`))
  const hung = keys[masters.indexOf(cluster.nodes[0] as ClusterNode)] as string
  const healthy = keys[masters.indexOf(cluster.nodes[1] as ClusterNode)] as string
  const storages = openers.map(([name, open]) => ({ name, storage: open(t, cluster, {}) }))
  await Promise.all(storages.map(({ storage }) => storage.read([hung, healthy])))
  await cluster.nodes[0]?.kill('SIGSTOP')
  const call = { signal: AbortSignal.timeout(10_000), retrying: () => {} }
  await Promise.all(storages.map(async ({ name, storage }) => {
    storage.read([hung], call).catch(() => {})
    await wait(1500)
    const begun = performance.now()
    await storage.read([healthy], call)
    const duration = performance.now() - begun
    t.ok(duration < 500, `${Math.round(duration)} ms, with ${name}`)
  }))
})

t.test('a Cluster that hangs as a whole is an outage, whoever made the client, and gets no burst afterwards', async (t) => {
  const cluster = await startCluster(t)
  for (const [name, open] of openers) {
    const { app, log } = await buildFastify(t, { storage: open(t, cluster, {}), loadTimeout: 300 }, () => {})
    await turn(app)
    await Promise.all(cluster.nodes.map((node) => node.ask('CONFIG', 'RESETSTAT')))
    await Promise.all(cluster.nodes.map((node) => node.kill('SIGSTOP')))
    let failed = 0
    const begun = performance.now()
    while (performance.now() - begun < 3000) {
      await Promise.all(Array.from({ length: 50 }, () => turn(app).catch(() => { failed++ })))
    }
    t.match(app.botasState.stats.outage, { reason: /^Redis: the server does not answer/ }, name)
    await Promise.all(cluster.nodes.map((node) => node.kill('SIGCONT')))
    await settled(() => turn(app).then(() => true, () => false))
    await wait(200)
    t.equal(app.botasState.stats.outage, null)
    t.equal(log.filter(({ msg }) => msg.includes('cannot be reached')).length, 1)
    const stats = (await Promise.all(cluster.nodes.map((node) => node.ask('INFO', 'commandstats')))).join()
    const gets = sum([...stats.matchAll(/cmdstat_get:calls=(\d+)/g)].map(([, n]) => Number(n)))
    t.ok(gets < failed * 2 / 2, `${gets} GETs for ${failed} turns that failed, two each, with ${name}`)
    await app.close()
  }
})

t.test('an update whose answer is lost with a node that leaves the client\'s map for a moment is not applied twice', async (t) => {
  await cluster.empty()
  const key = 'key'
  const [node] = await cluster.mastersOf([`botas:${key}`]) as [ClusterNode]
  const { port, swallowAnswers } = await startProxy(t, node.port)
  const client = connect(t, cluster, { natMap: { [`127.0.0.1:${node.port}`]: { host: '127.0.0.1', port } } })
  const storage = new RedisStorage(client)
  // The node knows the script from now on.
  await storage.update(key, () => ({ n: 1 }))
  const { [key]: loaded } = await storage.read([key])
  swallowAnswers()
  const call = { signal: AbortSignal.timeout(10_000), retrying: () => {} }
  const outcome = storage.update(key, (current) => ({ n: current?.n as number + 1 }), loaded, call)
  outcome.catch(() => {})
  await settled(async () => await node.ask('GET', `botas:${key}`) === '{"n":2}')
  // Two nodes that do not agree are asked for the map, one after the other.
  const { connectionPool } = client as unknown as { connectionPool: { reset: (nodes: object[]) => void } }
  const nodes = client.nodes('all').map(({ options: { host, port, readOnly } }) => ({ host, port, readOnly }))
  connectionPool.reset(nodes.filter((node) => node.port !== port))
  connectionPool.reset(nodes)
  await t.rejects(outcome, { message: /^Redis: the connection was lost before the answer came/ })
  t.strictSame(await storage.read([key]), { [key]: { n: 2 } }, 'it was executed once')
})

/** A way to a node on which answers can be lost; from then on, only for the connections that are there. */
async function startProxy (t: Test, upstreamPort: number): Promise<{ port: number, swallowAnswers: () => void }> {
  const open = new Set<Socket>()
  const proxy = createServer({ allowHalfOpen: true }, (socket) => {
    const upstream = netConnect(upstreamPort, '127.0.0.1')
    open.add(upstream)
    socket.pipe(upstream)
    upstream.on('data', (chunk) => { if (open.has(upstream)) socket.write(chunk) })
    for (const one of [socket, upstream]) one.on('error', () => {}).on('close', () => { socket.destroy(); upstream.destroy() })
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.teardown(() => proxy.close())
  return { port: (proxy.address() as AddressInfo).port, swallowAnswers: () => open.clear() }
}

t.test('while no node of the Cluster is there', async (t) => {
  const cluster = await prepareCluster(t)

  await t.test('a turn fails within loadTimeout, and the server closes at once', async (t) => {
    const { app } = await buildFastify(t, { storage: cluster.url, loadTimeout: 300 }, () => {})
    const begun = performance.now()
    await t.rejects(turn(app), { code: 'FST_BOTAS_STATE_LOAD_FAILED', cause: { message: /^Redis: there is no connection$/ } })
    const failed = performance.now() - begun
    await app.close()
    const closed = performance.now() - begun - failed
    t.ok(failed > 250 && failed < 800, `the turn took ${Math.round(failed)} ms`)
    t.ok(closed < 1000, `closing took ${Math.round(closed)} ms`)
  })

  await t.test('a process closes and ends by itself', async (t) => {
    t.strictSame(await runProcess(t, cluster.url), ['FST_BOTAS_STATE_LOAD_FAILED'])
  })

  await t.test('turns work as soon as it is there', async (t) => {
    const { app } = await buildFastify(t, { storage: cluster.url, loadTimeout: 100 }, () => {})
    await t.rejects(turn(app), { code: 'FST_BOTAS_STATE_LOAD_FAILED' })
    await cluster.start()
    await assertTurnsWork(t, app)
  })

  await t.test('and once it is there, a process closes and ends by itself as well', async (t) => {
    t.strictSame(await runProcess(t, cluster.url), ['saved'])
  })

  await t.test('turns work again when all nodes were gone for a while', async (t) => {
    const { app } = await buildFastify(t, { storage: cluster.url, loadTimeout: 500 }, () => {})
    await turn(app)
    await Promise.all(cluster.nodes.map((node) => node.kill()))
    await t.rejects(turn(app), { code: 'FST_BOTAS_STATE_LOAD_FAILED' })
    await cluster.start()
    await assertTurnsWork(t, app)
  })
})

async function turn (app: FastifyInstance): Promise<void> {
  await app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: '1', userId: '1' }, ({ conversation, user }) => {
    conversation.update<number>('n', (n = 0) => n + 1)
    user.update<number>('n', (n = 0) => n + 1)
  })
}

async function assertTurnsWork (t: Test, app: FastifyInstance): Promise<void> {
  const begun = performance.now()
  await settled(() => turn(app).then(() => true, () => false))
  const duration = performance.now() - begun
  t.ok(duration < 2000, `${Math.round(duration)} ms after the Cluster`)
}

/** Runs one turn in a process of its own. Gives what became of it, if the process then ends as it should. */
async function runProcess (t: Test, url: string): Promise<unknown[]> {
  const { child, lines, exited } = startProcess('cluster-turn.js', url, '500')
  t.teardown(() => child.kill('SIGKILL'))
  const { value: outcome } = await lines.next()
  const { value: duration } = await lines.next()
  const closed = performance.now()
  t.strictSame(await exited, { code: 0, signal: null, errors: '' })
  const left = performance.now() - closed
  t.ok(duration < 1000, `closing took ${duration} ms`)
  t.ok(left < 1000, `the process ended ${Math.round(left)} ms later`)
  return [outcome]
}
