import { App, type IHttpServerAdapter, type IPlugin } from '@microsoft/teams.apps'
import Fastify, { type FastifyInstance } from 'fastify'
import botasState, { type Storage, type TurnState, activityId } from 'fastify-botas-state'
import { answer } from '../answer.js'

/** A bot of the Teams SDK. It authenticates Teams where CLIENT_ID is set. */
export async function buildBot (storage: Storage | string, env: NodeJS.ProcessEnv = process.env): Promise<FastifyInstance> {
  const fastify = Fastify({ logger: { level: 'warn' } })
  // A request is no turn: the SDK authenticates it in the route, and the state is loaded after that, by the middleware below.
  await fastify.register(botasState, { storage, identify: () => undefined, concurrency: 'queue', once: true })

  const httpServerAdapter: IHttpServerAdapter = {
    registerRoute: (method, url, handler) => fastify.route({
      method,
      url,
      handler: async ({ body, headers }, reply) => {
        const response = await handler({ body, headers: headers as Record<string, string | string[]> })
        return reply.code(response.status).send(response.body)
      }
    })
  }
  const { CLIENT_ID: clientId = '', CLIENT_SECRET: clientSecret = '', TENANT_ID: tenantId = '' } = env
  const credentials = { clientId, clientSecret, tenantId, dangerouslyAllowUnauthenticatedRequests: clientId === '' }
  const app = new App<IPlugin<{ turn: TurnState }>>({ httpServerAdapter, ...credentials })

  // The last middleware: the turn goes to the handlers with the context. What they throw fails it, before the SDK makes a 500 of that.
  app.use((context) => {
    const { channelId, recipient, conversation, from } = context.activity
    const ids = { channelId, botId: recipient.id, conversationId: conversation.id, userId: from.id }
    const identity = { ...ids, activityId: activityId(context.activity) }
    return fastify.botasState.run(identity, async (turn) => {
      const response = await context.next({ ...context, turn })
      await context.stream.close()    // a streamed answer belongs to the turn: where its end cannot be sent, the turn fails
      return response
    })
  })
  app.on('message', async ({ activity, send, turn }) => {
    await send(await answer(turn, activity.text))
  })
  await app.initialize()    // not start(), which opens a server of the SDK's own
  return fastify
}
