import { setTimeout as wait } from 'node:timers/promises'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { Test } from 'tap'
import { activityIdentity } from '../../lib/index.js'
import { CONVERSATION_KEY, message } from './activities.js'
import { buildFastify, settled } from './build-fastify.js'
import { gate, senders } from './raw-client.js'
import { RecordingStorage } from './recording-storage.js'

/** How a turn comes to its end, and what is to come of it. */
export interface Ending {
  title: string
  /** the handler; the state was changed before it, and `reached` lets the client act */
  handler: (request: FastifyRequest, reply: FastifyReply, reached: () => void, goOn: Promise<void>) => unknown
  /** what else the server has */
  server?: (app: FastifyInstance) => void
  /** in milliseconds, for a GET: Fastify forgets the timeout of a request whose body was read */
  handlerTimeout?: number
  /** the first Fastify that can do this: an earlier one throws by itself, where nobody can catch it */
  since?: string
  /** what the client does when the handler is reached; by default it waits for the response */
  client?: 'leaves' | 'resets'
  status?: number
  /** whether the turn is saved, if it changed anything */
  saved: boolean
  /** the turn ends before anything was changed: there is nothing to save */
  changesNothing?: true
}

/** A GET is a turn of the same conversation. */
export const identify = ({ method, body }: FastifyRequest) => activityIdentity(method === 'GET' ? message() : body)

/** Declares a test for each ending, over each protocol and with each setting of `flush`. */
export function tryEndings (t: Test, endings: Ending[]): void {
  for (const [protocol, { send, options }] of Object.entries(senders)) {
    for (const flush of ['onResponse', 'onSend'] as const) {
      t.test(`${protocol}, flush: ${flush}`, async (t) => {
        t.jobs = 8
        for (const ending of endings.filter(({ since = '5' }) => Fastify().version.localeCompare(since, 'en', { numeric: true }) >= 0)) {
          t.test(ending.title, async (t) => {
            const storage = new RecordingStorage()
            const reached = gate()
            const goOn = gate()
            const closed = gate()
            const { app, log, port } = await buildFastify(t, { storage, flush, identify, flushTimeout: 5000 }, (app) => {
              ending.server?.(app)
              app.addHook('preHandler', async ({ state }) => { state.conversation.set('kept', true) })
              app.post('/', (request, reply) => ending.handler(request, reply, reached.open, goOn.opened))
              app.get('/', { handlerTimeout: ending.handlerTimeout ?? 5000 }, (request, reply) =>
                ending.handler(request, reply, reached.open, goOn.opened))
            }, options)
            app.server.once('request', (_request, response) => response.once('close', closed.open))
            const request = await send(port, ending.handlerTimeout === undefined ? message() : undefined)
            if (ending.client !== undefined) {
              await reached.opened
              if (ending.client === 'leaves') request.leave()
              else request.reset()
            }
            await closed.opened
            goOn.open()
            if (ending.client === undefined) await settled(request.over)
            else await wait(50)
            await app.close()
            const isStored = ending.saved && ending.changesNothing !== true
            t.strictSame(await storage.stored(CONVERSATION_KEY), isStored ? { kept: true } : undefined)
            t.equal(storage.count('update'), isStored ? 1 : 0)
            if (ending.status !== undefined) t.equal(request.status(), ending.status)
            t.strictSame(log.filter(({ msg }) => /state|turns/.test(msg)), [], 'no failed save is reported, and no turn is left open')
          })
        }
      })
    }
  }
}
