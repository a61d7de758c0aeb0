import { randomUUID } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import type { FastifyInstance, FastifyServerOptions } from 'fastify'
import type { Test } from 'tap'
import type { BotasStateOptions } from '../../lib/index.js'
import { type InspectorOptions, inspector } from '../../lib/inspector/inspector.js'
import { message } from './activities.js'
import { buildFastify, post } from './build-fastify.js'
import { slowStorage } from './slow-storage.js'

/** What is said, by whom, and where. */
interface Saying extends Record<string, unknown> {
  text: string
  conversation?: string
  user?: string
}

export interface InspectedBot {
  app: FastifyInstance
  /** of the server */
  url: string
  /** Says it, and resolves to the status of the answer. */
  say (saying: string | Saying): Promise<number>
}

/**
 * A bot with the inspector, which counts, and remembers what was said last: `fail` throws, `slow` takes a while, `long` stores a text
 * of a megabyte.
 */
export async function inspectedBot (
  t: Test,
  { inspect = {}, routes = () => {}, server = {}, port = 0, ...options }: Partial<BotasStateOptions> & {
    inspect?: InspectorOptions, routes?: (app: FastifyInstance) => void, server?: FastifyServerOptions, port?: number
  } = {}
): Promise<InspectedBot> {
  const { app, url } = await buildFastify(t, { storage: slowStorage(5), ...options }, (app) => {
    app.register(inspector, inspect)
    app.post<{ Body: { text: string } }>('/api/messages', async ({ body: { text }, state: { conversation, user } }) => {
      conversation.update<number>('turn_count', (count = 0) => count + 1)
      user.update<number>('user_message_count', (count = 0) => count + 1)
      conversation.update<string[]>('said', (said = []) => [...said, text].slice(-3))
      if (text === 'slow') await wait(400)
      if (text === 'long') conversation.set('long', Array.from({ length: 20_000 }, (_, index) => ({ index, text: `${'long '.repeat(7)}${index}` })))
      if (text === 'fail') throw Object.assign(new Error('the model is away'), { code: 'MODEL_AWAY' })
      return { text }
    })
    routes(app)
  }, server, port)
  return {
    app,
    url,
    say: async (saying) => (await post(`${url}/api/messages`, message({ id: randomUUID(), ...typeof saying === 'string' ? { text: saying } : saying }))).status
  }
}
