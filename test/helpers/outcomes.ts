import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Test } from 'tap'
import type { BotasStateOptions } from '../../lib/index.js'
import { CONVERSATION_KEY, message } from './activities.js'
import { buildFastify } from './build-fastify.js'
import { type Answer, protocols } from './client.js'
import type { RecordingStorage } from './recording-storage.js'
import { slowStorage } from './slow-storage.js'

export const flushes = ['onResponse', 'onSend'] as const

export type Handler = (request: FastifyRequest, reply: FastifyReply) => unknown

export interface Outcome {
  answer: Answer
  stored: unknown
  log: string[]
}

/** What one message comes to, over each protocol. */
export async function outcomes (
  t: Test, options: BotasStateOptions, routes: (app: FastifyInstance) => void, storage: () => RecordingStorage = slowStorage
): Promise<Outcome[]> {
  return Promise.all(Object.values(protocols).map(async ({ serverOptions, connect }) => {
    const slow = storage()
    const { app, log, port } = await buildFastify(t, { storage: slow, ...options }, routes, serverOptions)
    const client = await connect(t, port)
    const answer = await client.say(message())
    client.leave()
    await app.close()
    t.equal(app.botasState.stats.openTurns, 0)
    return { answer, stored: await slow.stored(CONVERSATION_KEY), log: log.map(({ msg }) => msg) }
  }))
}
