import { Readable } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'

interface Message {
  role: string
  content: string
}

/** How long the model takes for a word, and for one where it is asked to be slow, in milliseconds. */
const WORD_TIME = 30
const SLOW = 250

/** The environment of an assistant: where it names no provider, the pretend one is asked, so that it can be tried offline. */
export async function orPretend (env: NodeJS.ProcessEnv): Promise<NodeJS.ProcessEnv> {
  if (env.OPENAI_API_KEY || env.OPENAI_BASE_URL) return env
  const provider = buildPretendProvider()
  const url = await provider.listen({ host: '127.0.0.1', port: 0 })
  // It does not keep the process from ending.
  provider.server.unref().on('connection', (socket) => socket.unref())
  return { ...env, OPENAI_BASE_URL: `${url}/v1` }
}

/** A provider of a (pretend) language model, by the protocol of OpenAI's chat completions. */
export function buildPretendProvider (): FastifyInstance {
  const app = Fastify({ forceCloseConnections: true })
  app.post<{ Body: { messages: Message[] } }>('/v1/chat/completions', async ({ body }, reply) => {
    reply.type('text/event-stream')
    return Readable.from(events(body.messages))
  })
  return app
}

async function * events (messages: Message[]): AsyncGenerator<string> {
  const said = messages.filter(({ role }) => role === 'user').map(({ content }) => content)
  const text = said.at(-1) ?? ''
  for (const content of `Turn #${said.length}: ${text}`.split(/(?<= )/)) {
    await wait(text === 'slow' ? SLOW : WORD_TIME)
    yield event({ choices: [{ index: 0, delta: { role: 'assistant', content } }] })
    if (text === 'fail') return yield event({ error: { message: 'The model broke off, as it was asked to' } })
  }
  yield event({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] })
  yield 'data: [DONE]\n\n'
}

function event (data: object): string {
  return `data: ${JSON.stringify(data)}\n\n`
}
