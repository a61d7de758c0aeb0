import { once } from 'node:events'
import { type AddressInfo, type Socket, connect as netConnect, createServer } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { RedisStorage } from '../../../../lib/storage/redis/redis-storage.js'
import { message } from '../../../helpers/activities.js'
import { buildFastify, post, settled } from '../../../helpers/build-fastify.js'
import { connect, openers } from '../../../helpers/cluster-storages.js'
import { deliverThreeTimes } from '../../../helpers/deliveries.js'
import { everythingIn } from '../../../helpers/everything-in-redis.js'
import { forgettingSuite } from '../../../helpers/forgetting-suite.js'
import { wayTo } from '../../../helpers/lossy-way.js'
import { startProcess } from '../../../helpers/node-process.js'
import { type ClusterNode, prepareCluster, startCluster } from '../../../helpers/redis-cluster.js'
import { storageSuite } from '../../../helpers/storage-suite.js'

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
    t.strictSame([...commands].sort(), ['eval', 'evalsha', 'get', 'hget', 'hlen', 'hset', 'pexpire', 'pttl', 'set'], 'most within the script')
  })
})

t.test('turns of one conversation take their places on a Cluster, where conversation and user are on different nodes', async (t) => {
  for (const concurrency of ['queue', 'reject', 'replace'] as const) {
    await cluster.empty()
    const servers = await Promise.all([1, 2].map(() => buildFastify(t, { storage: cluster.url, flush: 'onSend', concurrency: { strategy: concurrency, lease: 1000 } }, (app) => {
      app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation, user } }) => {
        const before = conversation.get<string[]>('texts') ?? []
        const ofUser = user.get<string[]>('texts') ?? []
        await wait(50)
        conversation.set('texts', [...before, text])
        user.set('texts', [...ofUser, text])
      })
    })))
    const replies = await Promise.all(Array.from({ length: 6 }, async (_, n) => {
      await wait(10 * n)
      return (await post((servers[n % 2] as typeof servers[0] & {}).url, message({ text: String(n), user: 'user-7' }))).status
    }))
    // Two servers may get the last ones in another order.
    const last = replies.lastIndexOf(200)
    const one = replies.map((_, n) => n === last ? 200 : 409)
    t.strictSame(replies, { queue: [200, 200, 200, 200, 200, 200], reject: one, replace: one }[concurrency], concurrency)
    const { app } = servers[0] as typeof servers[0] & {}
    const stored = await app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: 'conversation-1', userId: 'user-7' },
      ({ conversation, user }) => [conversation.get<string[]>('texts'), user.get<string[]>('texts')])
    const saved = { queue: ['0', '1', '2', '3', '4', '5'], reject: [String(last)], replace: [String(last)] }[concurrency]
    t.strictSame(stored.map((texts) => texts?.toSorted()), [saved, saved], concurrency)
  }
})

t.test('activities that are delivered three times are handled once on a Cluster', async (t) => {
  await cluster.empty()
  await deliverThreeTimes(t, { storage: cluster.url, processes: 2, activities: 40, kills: 3, concurrency: 'queue' },
    async (key) => JSON.parse(await connect(t, cluster).get(`botas:${key}`) ?? '{}'))
})

t.test('on a Cluster, what stands beside each of the documents of a turn', async (t) => forgettingSuite(t, async (t) => {
  await cluster.empty()
  const client = connect(t, cluster)
  return {
    storage: new RedisStorage(client),
    everything: async () => (await Promise.all(client.nodes('master').map(everythingIn))).flat()
  }
}))

t.test('a user who is deleted holds up nothing where the node hangs right after that, before the conversation is saved', async (t) => {
  const cluster = await startCluster(t)
  const keys = ['botas:test/bot/users/ada', ...Array.from({ length: 20 }, (_, index) => `botas:test/bot/conversations/${index}`)]
  const [own, ...others] = await cluster.mastersOf(keys) as [ClusterNode, ...ClusterNode[]]
  const elsewhere = others.findIndex((node) => node !== own)
  let isLast = false
  const { port } = await wayTo(t, own.port, (direction) => {
    if (direction === 'answers' && isLast) own.kill('SIGSTOP')
    return false
  })
  const client = connect(t, cluster, { natMap: { [`127.0.0.1:${own.port}`]: { host: '127.0.0.1', port } } })
  const { app } = await buildFastify(t, { storage: new RedisStorage(client) }, () => {})
  const identity = { channelId: 'test', botId: 'bot', conversationId: String(elsewhere), userId: 'ada' }
  await app.botasState.run(identity, ({ conversation, user }) => {
    conversation.set('n', 1)
    user.set('n', 1)
  })
  const begun = performance.now()
  await app.botasState.run(identity, (state) => {
    state.conversation.set('n', 2)
    state.deleteUserState()
    isLast = true
  })
  const took = performance.now() - begun
  t.ok(took < 900, `${Math.round(took)} ms`)
  t.match(await others[elsewhere]?.ask('GET', keys[elsewhere + 1] as string), '"n":2')
})

t.test('the token of a save stays for its minute where a copy of it may still be on its way, on the connection to one node', async (t) => {
  await cluster.empty()
  const key = 'botas:test/bot/users/ada'
  const [own] = await cluster.mastersOf([key]) as [ClusterNode]
  const connected = connect(t, cluster)
  await once(connected, 'ready')
  for (const client of [connected, connect(t, cluster)]) {
    const { app } = await buildFastify(t, { storage: new RedisStorage(client) }, () => {})
    const identity = { channelId: 'test', botId: 'bot', userId: 'ada' }
    await app.botasState.run(identity, ({ user }) => user.set('n', 1))
    await own.ask('CLIENT', 'KILL', 'TYPE', 'normal')
    await settled(() => client.nodes('master').every(({ options: { port } }) => port !== own.port))
    await app.botasState.run(identity, (state) => state.deleteUserState())
    t.strictSame(await own.ask('KEYS', 'botas:*ada*'), [`botas:~saved:{${key}}`])
  }
})

t.test('a user is deleted, whole or not at all, while the slot of the document moves to another node', async (t) => {
  const cluster = await startCluster(t)
  const { app } = await buildFastify(t, { storage: new RedisStorage(connect(t, cluster)), once: true }, () => {})
  const identity = { channelId: 'test', botId: 'bot', userId: 'ada' }
  for (const activityId of ['a', 'b']) await app.botasState.run({ ...identity, activityId }, ({ user }) => user.set(activityId, true))
  const key = 'botas:test/bot/users/ada'
  const [from] = await cluster.mastersOf([key]) as [ClusterNode]
  const to = cluster.nodes.slice(0, 3).find((node) => node !== from) as ClusterNode
  const slot = await from.ask('CLUSTER', 'KEYSLOT', key) as number
  const move = (...keys: string[]) => from.ask('MIGRATE', '127.0.0.1', to.port, '', 0, 5000, 'KEYS', ...keys)
  await to.ask('CLUSTER', 'SETSLOT', slot, 'IMPORTING', from.id)
  await from.ask('CLUSTER', 'SETSLOT', slot, 'MIGRATING', to.id)
  await move(`botas:~marks:{${key}}`)
  const deleted = app.botasState.run(identity, (state) => state.deleteUserState())
  await wait(300)
  t.equal(await from.ask('EXISTS', key), 1)
  await move(...await from.ask('CLUSTER', 'GETKEYSINSLOT', slot, 100) as string[])
  for (const node of [to, from]) await node.ask('CLUSTER', 'SETSLOT', slot, 'NODE', to.id)
  await deleted
  const client = connect(t, cluster)
  t.strictSame((await Promise.all(client.nodes('master').map((node) => node.keys('*ada*')))).flat(), [])
})

function sum (numbers: number[]): number {
  return numbers.reduce((one, other) => one + other, 0)
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
  await settled(async () => await node.ask('GET', `botas:${key}`) === '{"n":2}')
  // Two nodes that do not agree are asked for the map, one after the other.
  const { connectionPool } = client as unknown as { connectionPool: { reset: (nodes: object[]) => void } }
  const nodes = client.nodes('all').map(({ options: { host, port, readOnly } }) => ({ host, port, readOnly }))
  connectionPool.reset(nodes.filter((node) => node.port !== port))
  connectionPool.reset(nodes)
  await outcome
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
  const { lines, exited } = startProcess(t, 'cluster-turn.js', url, '500')
  const { value: outcome } = await lines.next()
  const { value: duration } = await lines.next()
  const closed = performance.now()
  t.strictSame(await exited, { code: 0, signal: null, errors: '' })
  const left = performance.now() - closed
  t.ok(duration < 1000, `closing took ${duration} ms`)
  t.ok(left < 1000, `the process ended ${Math.round(left)} ms later`)
  return [outcome]
}
