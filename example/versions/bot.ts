import Fastify, { type FastifyInstance } from 'fastify'
import botasState, { type DocumentsOptions, type Storage, type TurnState } from 'fastify-botas-state'

/** What the bot was at one time: what it knew of its users' documents, and what it made of them. */
export interface Deployment {
  documents: DocumentsOptions
  /** @param name as the user just gave it */
  answer: (state: TurnState, name: string | undefined) => string
}

const messageSchema = {
  type: 'object',
  required: ['type', 'channelId', 'recipient', 'conversation', 'from'],
  properties: { type: { type: 'string' }, text: { type: 'string', default: '' } }
}

/** A bot that knows its users by name, and how often each was there. */
export async function buildVisitorBot (storage: Storage | string, { documents, answer }: Deployment): Promise<FastifyInstance> {
  const app = Fastify({ logger: { level: 'warn' } })
  // Saved before the reply leaves: during a deployment the next message may reach another version.
  await app.register(botasState, { storage, documents, flush: 'onSend' })

  app.post<{ Body: { type: string, text: string } }>('/api/messages', { schema: { body: messageSchema } }, async ({ body: { type, text }, state }) => {
    if (type !== 'message') return {}
    return { text: answer(state, /^I am (.+)/.exec(text)?.[1]) }
  })
  return app
}
