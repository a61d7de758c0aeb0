import Fastify, { type FastifyInstance } from 'fastify'
import botasState, { type BotasStateOptions, type TurnState } from 'fastify-botas-state'
import { type Activity, activitySchema, deliver, replyTo } from './activity.js'

declare module 'fastify-botas-state' {
  interface ConversationState {
    turn_count: number
  }
  interface UserState {
    user_message_count: number
  }
}

/** A bot that counts the messages of each conversation and of each user. */
export async function buildCounterBot (options: BotasStateOptions): Promise<FastifyInstance> {
  const app = Fastify({ logger: { level: 'warn' } })
  await app.register(botasState, options)

  app.post<{ Body: Activity }>('/api/messages', { schema: { body: activitySchema } }, async (request) => {
    const activity = request.body
    if (activity.type !== 'message') return {}
    const reply = replyTo(activity, answer(activity, request.state))
    if (activity.deliveryMode === 'expectReplies') return { activities: [reply] }
    await deliver(activity, reply)
    return {}
  })
  return app
}

function answer (activity: Activity, { conversation, user }: TurnState): string {
  const text = activity.text?.trim() ?? ''
  switch (text.toLowerCase()) {
    case 'whoami':
      return `You are ${activity.from?.id}. You have sent ${user.get('user_message_count') ?? 0} message(s).`
    case 'reset':
      conversation.clear()
      return 'Counters reset!'
  }
  const turns = conversation.update('turn_count', (count) => (count ?? 0) + 1)
  const messages = user.update('user_message_count', (count) => (count ?? 0) + 1)
  if (text.toLowerCase() === 'crash') throw new Error('The bot crashed, as it was asked to: nothing of this turn is saved')
  return `Turn #${turns} | Your message #${messages}: ${text}`
}
