import { AsyncLocalStorage } from 'node:async_hooks'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { FileStorage, MemoryStorage, type Storage } from '../../../lib/index.js'
import { RedisStorage } from '../../../lib/storage/redis/redis-storage.js'
import { message } from '../activities.js'
import { RecordingStorage } from '../recording-storage.js'
import type { Answers } from './client.js'
import type { Clients } from './clients.js'
import type { Program } from './program.js'
import { Run } from './run.js'
import { serve } from './serve.js'

/** What came of a program. */
export interface Outcome extends Pick<Run, 'events' | 'log' | 'uncaught' | 'isMixedUp'>, Pick<Answers, 'answer' | 'next'> {
  stored: { conversation: unknown, user: unknown }
  openTurns: number
  /** milliseconds that closing the server took */
  closing: number
  /** how many listeners there are on the connection */
  listeners: Record<string, number>
}

/** Says which run what nobody caught belongs to. */
const current = new AsyncLocalStorage<Run>()
/** What nobody caught and belongs to no program. */
export const strays: unknown[] = []

/** Notes what nobody catches, as long as programs are played. */
export function watchUncaught (): () => void {
  const uncaught = (error: unknown): void => {
    const run = current.getStore()
    if (run === undefined) strays.push(error)
    else run.uncaught.push(String(error instanceof Error ? error.stack : error))
  }
  process.on('uncaughtException', uncaught)
  process.on('unhandledRejection', uncaught)
  return () => {
    process.off('uncaughtException', uncaught)
    process.off('unhandledRejection', uncaught)
  }
}

/** What all programs share. */
export interface Surroundings { clients: Clients, redisUrl: string }

let plays = 0

/** Runs a program on a server of its own, with one client. */
export async function play (program: Program, mode: Run['mode'], { clients, redisUrl }: Surroundings): Promise<Outcome> {
  const run = new Run(program, mode)
  return current.run(run, async () => {
    await run.consume()
    // Without the plugin nobody would close it.
    const { storage, remove } = openStorage(mode === 'plugin' ? program : { ...program, storage: 'memory' }, redisUrl)
    let app: FastifyInstance | undefined
    try {
      app = await serve(run, storage)
      return await converse(run, app, storage, clients)
    } finally {
      await app?.close()
      // A server that did not start has not closed it.
      await storage.close?.()
      remove()
    }
  })
}

async function converse (run: Run, app: FastifyInstance, storage: Storage, clients: Clients): Promise<Outcome> {
  const { port } = app.server.address() as { port: number }
  const connections = connectionsOf(app)
  const ids = { conversation: `conversation-${++plays}`, user: `user-${plays}` }
  const { protocol, client } = run.program
  const { answers, leave, close } = clients.talk({ protocol, port, message: message(ids), sendsNext: client !== 'waits' })
  run.leave = leave
  try {
    const { answer, next } = await answers
    await settle(run, app)
    const { events, log, uncaught, isMixedUp } = run
    const stored = await storedBy(storage, ids)
    const openTurns = run.mode === 'plugin' ? app.botasState.stats.openTurns : 0
    const listeners = connections.listeners()
    const began = performance.now()
    await app.close()
    return { events, log, uncaught, isMixedUp, answer, next, stored, openTurns, listeners, closing: performance.now() - began }
  } finally {
    close()
  }
}

/** Resolves when nothing goes on any more, or not in reasonable time. */
async function settle (run: Run, app: FastifyInstance): Promise<void> {
  const isOver = (): boolean => {
    if (run.busy > 0 || !run.clock.isIdle) return false
    if (run.mode !== 'plugin') return true
    const { openTurns, pendingFlushes } = app.botasState.stats
    return openTurns === 0 && pendingFlushes === 0
  }
  const deadline = performance.now() + (run.mode === 'plugin' ? 4000 : 200)
  for (let quiet = 0; quiet < 3 && performance.now() < deadline;) {
    await wait(2)
    quiet = isOver() ? quiet + 1 : 0
  }
}

async function storedBy (storage: Storage, { conversation, user }: { conversation: string, user: string }): Promise<Outcome['stored']> {
  const keys = [`test/bot/conversations/${conversation}`, `test/bot/users/${user}`] as const
  if (storage instanceof RecordingStorage) return { conversation: await storage.stored(keys[0]), user: await storage.stored(keys[1]) }
  const documents = await storage.read([...keys])
  return { conversation: documents[keys[0]], user: documents[keys[1]] }
}

function openStorage (program: Program, redisUrl: string): { storage: Storage, remove: () => void } {
  const remove = (): void => {}
  switch (program.storage) {
    case 'memory': return { storage: new MemoryStorage(), remove }
    case 'delayed': return { storage: delayed(program), remove }
    case 'redis': return { storage: new RedisStorage(redisUrl), remove }
    case 'file': {
      const directory = mkdtempSync(join(tmpdir(), 'botas-oracle-'))
      return { storage: new FileStorage(directory), remove: () => rmSync(directory, { recursive: true, force: true }) }
    }
  }
}

function delayed ({ latencies, broken }: Program): RecordingStorage {
  const storage = new RecordingStorage()
  let calls = 0
  const latency = { enumerable: true, get: () => latencies[calls++ % latencies.length] }
  Object.defineProperties(storage.latency, { read: latency, update: latency })
  if (broken !== 'nothing') storage.failures[broken] = new Error(`${broken} failed`)
  return storage
}

/** The listeners on the connections of a server; of HTTP/2 those on its sessions. */
function connectionsOf (app: FastifyInstance) {
  const connections = new Set<NodeJS.EventEmitter>()
  for (const event of ['connection', 'secureConnection', 'session']) {
    app.server.on(event, (connection: NodeJS.EventEmitter) => connections.add(connection))
  }
  return {
    listeners: () => {
      const counts: Record<string, number> = {}
      for (const connection of connections) {
        for (const event of connection.eventNames()) counts[String(event)] = Math.max(counts[String(event)] ?? 0, connection.listenerCount(event))
      }
      return counts
    }
  }
}
