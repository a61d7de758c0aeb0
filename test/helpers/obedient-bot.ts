import { channel } from 'node:diagnostics_channel'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { type BotasStateOptions, type DocumentsOptions, type StateScope, FileStorage } from '../../lib/index.js'
import { message } from './activities.js'
import { buildFastify, post } from './build-fastify.js'

/** What a message asks the bot to do with one scope, in this order. */
export interface Orders {
  clear?: true
  get?: string
  delete?: string
  set?: Record<string, unknown>
}

function obey (scope: StateScope, { clear, get, delete: removed, set = {} }: Orders = {}): unknown {
  if (clear) scope.clear()
  for (const [name, value] of Object.entries(set)) scope.set(name, value)
  if (removed !== undefined) scope.delete(removed)
  return get && scope.get(get)
}

/** A bot that does what it is told, with documents that have to be like this. */
export async function startObedient (t: Test, documents: DocumentsOptions, options: Omit<BotasStateOptions, 'documents'> = {}) {
  const events: unknown[] = []
  const note = (event: unknown) => { events.push(event) }
  for (const name of ['botas-state:load', 'botas-state:flush']) {
    channel(name).subscribe(note)
    t.teardown(() => channel(name).unsubscribe(note))
  }
  const server = await buildFastify(t, { flush: 'onSend', documents, ...options }, (app) => {
    app.post<{ Body: { orders: { user?: Orders, conversation?: Orders } } }>('/', async ({ body: { orders }, state }) => ({
      user: obey(state.user, orders.user), conversation: obey(state.conversation, orders.conversation)
    }))
  })
  return {
    ...server,
    say: (orders: { user?: Orders, conversation?: Orders }) => post(server.url, message({ orders })),
    /** all that is told of turns, to clients and to operators */
    told: (...replies: unknown[]) => JSON.stringify([replies, server.log, server.app.botasState.stats, events], withoutFigures)
  }
}

/** Files, whose bytes a test reads and writes. */
export function filesOf (t: Test) {
  const directory = t.testdir()
  const pathOf = (key: string) => join(directory, `${encodeURIComponent(key)}.json`)
  return {
    storage: new FileStorage(directory),
    write: (key: string, text: string) => writeFile(pathOf(key), text),
    text: (key: string) => readFile(pathOf(key), 'utf8').catch(() => undefined)
  }
}

/** Of times and ports, which may have the digits of any number. */
function withoutFigures (name: string, value: unknown): unknown {
  return ['time', 'at', 'duration', 'pid', 'host', 'remotePort'].includes(name) ? undefined : value
}
