import { Readable } from 'node:stream'
import Fastify, { type FastifyInstance } from 'fastify'
import botasState, { type Storage, type TurnState } from 'fastify-botas-state'
import { type ChatMessage, pretendModel } from './pretend-model.js'

declare module 'fastify-botas-state' {
  interface ConversationState {
    history: ChatMessage[]
  }
}

/** How many messages the model is shown: the history does not grow for ever. */
const MAX_HISTORY = 20

const messageSchema = {
  type: 'object',
  required: ['type', 'channelId', 'recipient', 'conversation'],
  properties: { type: { type: 'string' }, text: { type: 'string', default: '' } }
}

/** A bot that streams what a language model answers, and keeps the history of each conversation. */
export async function buildChatBot (storage: Storage | string): Promise<FastifyInstance> {
  const app = Fastify({ logger: { level: 'warn' } })
  // One question at a time: the model sees all that was said before.
  await app.register(botasState, { storage, concurrency: 'queue' })

  app.post<{ Body: { type: string, text: string } }>('/api/messages', { schema: { body: messageSchema } }, async (request, reply) => {
    const { type, text } = request.body
    if (type !== 'message') return {}
    reply.type('text/plain; charset=utf-8')
    if (text === 'forget') {
      request.state.deleteConversationState()
      return 'I have forgotten what we said.\n'
    }
    return Readable.from(answer(request.state, text))
  })
  return app
}

/** The turn is over when the stream is: where the model fails, or the client leaves, the last line is never reached. */
async function * answer ({ conversation }: TurnState, text: string): AsyncGenerator<string> {
  const question: ChatMessage = { role: 'user', content: text }
  const reply: ChatMessage = { role: 'assistant', content: '' }
  for await (const token of pretendModel([...conversation.get('history') ?? [], question])) {
    reply.content += token
    yield token
  }
  yield '\n'
  conversation.update('history', (history = []) => [...history, question, reply].slice(-MAX_HISTORY))
}
