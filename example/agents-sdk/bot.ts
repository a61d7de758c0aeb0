import { AgentApplication, CloudAdapter, type Request, type TurnContext } from '@microsoft/agents-hosting'
import Fastify, { type FastifyInstance } from 'fastify'
import botasState, { type Storage, type TurnState } from 'fastify-botas-state'
import { answer } from '../answer.js'
import { expressReply } from '../express-reply.js'

declare module 'fastify' {
  interface FastifyRequest {
    user?: NonNullable<Request['user']> // the claims of its token, by the adapter
  }
}

/** Where a turn's context carries its state. */
const STATE = Symbol('fastify-botas-state')

function stateOf ({ turnState }: TurnContext): TurnState {
  return turnState.get(STATE)
}

/** A bot of the Microsoft 365 Agents SDK, which reads by itself from the environment whom to let in: `clientId`, or `connections__…`. */
export async function buildBot (storage: Storage | string): Promise<FastifyInstance> {
  const app = Fastify({ logger: { level: 'warn' } })
  await app.register(botasState, { storage, concurrency: 'queue', once: true })

  const adapter = new CloudAdapter()
  // It needs no storage of the SDK's: what it remembers is in the plugin's state.
  const agent = new AgentApplication({ adapter })
  agent.onActivity('message', async (context) => {
    await context.sendActivity(await answer(stateOf(context), context.activity.text ?? ''))
  })
  // The SDK catches what the bot throws, and answers 200: without `fail` half of the turn would be saved. Where the user cannot be told,
  // the answer is 500: so the channel may deliver the message again.
  agent.onError(async (context, error) => {
    stateOf(context).fail(error)
    app.log.error(error)
    await context.sendActivity('Something went wrong, and I have forgotten it. Please say it again.')
      .catch((cause) => { throw new Error('The user could not be told', { cause }) })
  })

  app.post<{ Body: Record<string, unknown> }>('/api/messages', {
    // Before the body is read and the state is loaded.
    onRequest (request, reply, next) { adapter.authorizeRequest(request, expressReply(reply), next) }
  }, async (request, reply) => {
    await adapter.process(request, expressReply(reply), async (context) => {
      context.turnState.set(STATE, request.state)
      await agent.run(context)
    })
    return reply
  })
  return app
}
