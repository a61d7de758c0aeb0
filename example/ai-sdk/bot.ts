import { finished } from 'node:stream'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { type ModelMessage, createUIMessageStreamResponse, streamText, toUIMessageStream } from 'ai'
import Fastify, { type FastifyInstance } from 'fastify'
import botasState, { type Storage } from 'fastify-botas-state'
import { type Chat, chatSchema, hasKey, identify } from './chat.js'

/** An assistant that streams what a language model answers, and shows it the last 20 messages of the conversation. */
export async function buildBot (storage: Storage | string, env: NodeJS.ProcessEnv = process.env): Promise<FastifyInstance> {
  const { OPENAI_API_KEY: apiKey = '', OPENAI_BASE_URL, OPENAI_MODEL, ASSISTANT_KEY } = env
  const openai = createOpenAICompatible({ name: 'openai', apiKey, baseURL: OPENAI_BASE_URL || 'https://api.openai.com/v1' })
  // The SDK's errors hold what was said, which is not for the log.
  const serializers = { err: ({ name: type, message, stack = '' }: Error) => ({ type, message, stack }) }
  const app = Fastify({ logger: { level: 'warn', serializers } })
  // Before the plugin: for a stranger no state is loaded.
  app.addHook('onRequest', async (request, reply) => {
    if (ASSISTANT_KEY && !hasKey(request, ASSISTANT_KEY)) return reply.code(401).send({ error: 'wrong key' })
  })
  await app.register(botasState, { storage, identify, concurrency: 'queue', once: true })

  app.post<{ Body: Chat }>('/api/chat', { schema: { body: chatSchema } }, async ({ body, state, log }, reply) => {
    const question: ModelMessage = { role: 'user', content: body.text }
    const client = new AbortController()
    // Also where it left while the turn waited for its place.
    finished(reply.raw, () => client.abort())
    const result = streamText({
      model: openai(OPENAI_MODEL || 'gpt-5-mini'),
      messages: [...state.conversation.get<ModelMessage[]>('messages') ?? [], question],
      abortSignal: AbortSignal.any([client.signal, state.signal]),
      // The SDK does not throw: it ends the answer as if it were whole.
      onError ({ error }) {
        log.error(error)
        state.fail(error)
      }
    })
    // Keeps the turn open until the answer is whole. Of one that broke off nothing is remembered: the message can be posted again.
    state.waitUntil(result.finalStep.then(({ text: content, finishReason }) => {
      if (finishReason === 'error') return
      state.conversation.update<ModelMessage[]>('messages', (messages = []) => [...messages, question, { role: 'assistant' as const, content }].slice(-20))
    }, (reason) => state.fail(reason)))
    return createUIMessageStreamResponse({ stream: toUIMessageStream({ stream: result.stream }) })
  })

  // For a client whose message was answered before: what is streamed is not kept, and not streamed again.
  app.get('/api/chat/:id', async ({ state }) => state.conversation.get('messages') ?? [])
  return app
}
