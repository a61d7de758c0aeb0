import type { ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import type { Test } from 'tap'
import { settled } from './build-fastify.js'
import { freePorts } from './free-port.js'
import { startServer } from './server-process.js'

const MASTERS = 3
const SLOTS = 16384
/** How long a node may be silent before the others think of a failover, in milliseconds. */
const NODE_TIMEOUT = 1000

/** One redis-server of a Cluster. */
export interface ClusterNode {
  id: string
  port: number
  /** whether its process is there, also where it was stopped by a signal */
  readonly isRunning: boolean
  start: () => Promise<void>
  /** Ends the process at once, or lets it hang (SIGSTOP) and go on (SIGCONT). */
  kill: (signal?: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT') => Promise<void>
  /** Sends one command to this very node and gives its answer. */
  ask: (command: string, ...args: Array<string | number>) => Promise<unknown>
}

export interface RedisCluster {
  /** three masters, and then a replica of each */
  nodes: ClusterNode[]
  /** where the masters are at first, for a client of ioredis */
  addresses: Array<{ host: string, port: number }>
  /** the same as a storage URL */
  url: string
  /** Starts all nodes, and resolves when the Cluster serves every slot and its replicas have what their masters have. */
  start: () => Promise<void>
  /** The masters that these keys are on by now. */
  mastersOf: (keys: string[]) => Promise<ClusterNode[]>
  /** Empties all masters. */
  empty: () => Promise<void>
}

/** Starts a real Redis Cluster of three masters and three replicas on free loopback ports, which is stopped with the test. */
export async function startCluster (t: Test): Promise<RedisCluster> {
  const cluster = await prepareCluster(t)
  await cluster.start()
  return cluster
}

/** A Cluster that is not started yet. Its nodes know each other, so that nobody has to introduce them. */
export async function prepareCluster (t: Test): Promise<RedisCluster> {
  const directory = mkdtempSync(join(tmpdir(), 'botas-cluster-'))
  const ports = await freePorts(4 * MASTERS)
  const known = Array.from({ length: 2 * MASTERS }, (_, index) => ({
    id: createHash('sha1').update(`${directory}/${index}`).digest('hex'),
    port: ports[index] as number,
    busPort: ports[2 * MASTERS + index] as number,
    directory: join(directory, String(index))
  }))
  for (const [own, { directory }] of known.entries()) {
    mkdirSync(directory)
    writeFileSync(join(directory, 'nodes.conf'), known.map(({ id, port, busPort }, index) => {
      const master = known[index - MASTERS]?.id ?? '-'
      const first = Math.ceil(index * SLOTS / MASTERS)
      const last = Math.ceil((index + 1) * SLOTS / MASTERS) - 1
      const flags = `${index === own ? 'myself,' : ''}${index < MASTERS ? 'master' : 'slave'}`
      return `${id} 127.0.0.1:${port}@${busPort} ${flags} ${master} 0 0 ${index % MASTERS + 1} connected` +
        `${index < MASTERS ? ` ${first}-${last}` : ''}\n`
    }).join('') + `vars currentEpoch ${MASTERS} lastVoteEpoch 0\n`)
  }
  const nodes = known.map(clusterNode)
  t.teardown(async () => {
    await Promise.all(nodes.map((node) => node.kill()))
    rmSync(directory, { recursive: true, force: true })
  })
  const addresses = known.slice(0, MASTERS).map(({ port }) => ({ host: '127.0.0.1', port }))
  const masters = async (): Promise<Array<[first: number, last: number, node: ClusterNode]>> => {
    const slots = await askAny(nodes, 'CLUSTER', 'SLOTS') as Array<[number, number, [string, number]]>
    return slots.map(([first, last, [, port]]) => [first, last, nodes.find((node) => node.port === port) as ClusterNode])
  }
  return {
    nodes,
    addresses,
    url: `redis://${addresses.map(({ host, port }) => `${host}:${port}`).join(',')}`,
    start: async () => {
      await Promise.all(nodes.map((node) => node.start()))
      await settled(async () => (await Promise.all(nodes.map(isServing))).every(Boolean), 20_000)
    },
    mastersOf: async (keys) => {
      const ranges = await masters()
      return keys.map((key) => {
        const slot = slotOf(key)
        const [, , node] = ranges.find(([first, last]) => first <= slot && slot <= last) ?? []
        if (node === undefined) throw new Error(`slot ${slot} has no master`)
        return node
      })
    },
    empty: async () => {
      const unique = new Set((await masters()).map(([, , node]) => node))
      await Promise.all([...unique].map((node) => node.ask('FLUSHALL')))
    }
  }
}

function clusterNode (
  { id, port, busPort, directory }: { id: string, port: number, busPort: number, directory: string }
): ClusterNode {
  let child: ChildProcess | undefined
  return {
    id,
    port,
    get isRunning () { return child !== undefined },
    start: async () => {
      const started = await startServer('redis-server', [
        '--port', port, '--cluster-port', busPort, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no',
        '--daemonize', 'no', '--cluster-enabled', 'yes', '--cluster-node-timeout', NODE_TIMEOUT,
        // A replica gets its copy at once.
        '--repl-diskless-sync-delay', 0
      ].map(String), directory, 'Ready to accept connections')
      child = started
      started.once('exit', () => { if (child === started) child = undefined })
    },
    kill: async (signal = 'SIGKILL') => {
      if (child === undefined) return
      const exit = once(child, 'exit')
      child.kill(signal)
      if (signal === 'SIGKILL') await exit
    },
    ask: async (command, ...args) => {
      const client = new Redis({ port, host: '127.0.0.1', lazyConnect: true, retryStrategy: () => null, commandTimeout: 2000, disableClientInfo: true })
      client.on('error', () => {})
      try {
        await client.connect()
        return await client.call(command, ...args)
      } finally {
        client.disconnect()
      }
    }
  }
}

/** A node that hangs does not answer: the next one is asked. */
async function askAny (nodes: ClusterNode[], command: string, ...args: string[]): Promise<unknown> {
  return Promise.any(nodes.filter((node) => node.isRunning).map((node) => node.ask(command, ...args)))
}

async function isServing (node: ClusterNode): Promise<boolean> {
  const [cluster, replication] = await Promise.all([node.ask('CLUSTER', 'INFO'), node.ask('INFO', 'replication')]) as [string, string]
  const isComplete = /cluster_state:ok[^]*cluster_slots_ok:16384[^]*cluster_known_nodes:6/.test(cluster)
  return isComplete && (/connected_slaves:1/.test(replication) || /master_link_status:up/.test(replication))
}

/** The slot of a key without a hash tag: its CRC-16. */
function slotOf (key: string): number {
  let crc = 0
  for (const byte of Buffer.from(key)) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000) === 0 ? crc << 1 : (crc << 1 ^ 0x1021) & 0xffff
  }
  return crc % SLOTS
}
