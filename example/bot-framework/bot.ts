import { ActivityHandler, CloudAdapter, ConfigurationBotFrameworkAuthentication, INVOKE_RESPONSE_KEY } from 'botbuilder'
import Fastify, { type FastifyInstance } from 'fastify'
import botasState, { type Storage, type TurnState, activityId, activityIdentity } from 'fastify-botas-state'
import { answer } from '../answer.js'
import { expressReply } from '../express-reply.js'

/** Where a turn's context carries its state. */
const STATE = Symbol('fastify-botas-state')

/**
 * A bot of the Bot Framework SDK.
 *
 * @param env says whom it lets in: `MicrosoftAppId`, `MicrosoftAppPassword`, `MicrosoftAppType`, `MicrosoftAppTenantId`
 */
export async function buildBot (storage: Storage | string, env: NodeJS.ProcessEnv = process.env): Promise<FastifyInstance> {
  const app = Fastify({ logger: { level: 'warn' } })
  // The adapter's middleware runs the turns, not the route: by then the adapter knows who calls, and for a stranger nothing is loaded.
  await app.register(botasState, { storage, identify: () => undefined, concurrency: 'queue', once: true })

  const adapter = new CloudAdapter(new ConfigurationBotFrameworkAuthentication(env))
  adapter.use(async (context, next) => {
    const identity = activityIdentity(context.activity)
    if (identity === undefined) throw new Error('the activity names no channel, or no bot')
    const answers = await app.botasState.run({ ...identity, activityId: activityId(context.activity) }, async (state) => {
      context.turnState.set(STATE, state)
      await next()
      return { replies: context.bufferedReplyActivities, invoke: context.turnState.get(INVOKE_RESPONSE_KEY) }
    })
    // What was delivered before gets its first answers again, unless they are longer than the option `keepReply`.
    context.bufferedReplyActivities.splice(0, Infinity, ...answers?.replies ?? [])
    context.turnState.set(INVOKE_RESPONSE_KEY, answers?.invoke)
  })
  // Of a turn that threw, or could not be saved, nothing is stored. Thrown on, its error is logged by the SDK, which answers 500: so the
  // channel may deliver the message again.
  adapter.onTurnError = async (context, error) => {
    await context.sendActivity('Something went wrong, and I have forgotten it. Please say it again.').catch(() => {})
    throw error
  }

  const bot = new ActivityHandler()
  bot.onMessage(async (context, next) => {
    await context.sendActivity(await answer(context.turnState.get<TurnState>(STATE), context.activity.text))
    await next()
  })

  app.post<{ Body: Record<string, unknown> }>('/api/messages', async (request, reply) => {
    await adapter.process(request, expressReply(reply), (context) => bot.run(context))
    return reply
  })
  return app
}
