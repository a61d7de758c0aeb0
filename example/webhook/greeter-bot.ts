import Fastify, { type FastifyInstance } from 'fastify'
import botasState, { type Storage, type TurnState } from 'fastify-botas-state'
import { type Message, type Update, identify, isFromTelegram, messageOf, sendMessage, updateSchema } from './telegram.js'

declare module 'fastify-botas-state' {
  interface ConversationState {
    messageCount: number
  }
  interface UserState {
    name: string
  }
}

/**
 * A bot behind a webhook of Telegram's: it counts the messages of a chat, and knows people by the name they want.
 *
 * @param secret that Telegram sends along; without one everybody is let in
 */
export async function buildGreeterBot (storage: Storage | string, secret?: string): Promise<FastifyInstance> {
  const app = Fastify({ logger: { level: 'warn' } })
  // Before the plugin: for a stranger no state is loaded.
  app.addHook('onRequest', async (request, reply) => {
    if (secret !== undefined && !isFromTelegram(request, secret)) return reply.code(401).send({ error: 'wrong secret' })
  })
  // Telegram delivers an update once more when it is not sure that it arrived. With `once` the state is saved before the reply
  // leaves: where that fails Telegram gets a 500, and the update is handled when it comes again.
  await app.register(botasState, { storage, identify, once: true, concurrency: 'queue' })

  app.post<{ Body: Update }>('/telegram', { schema: { body: updateSchema } }, async ({ body: update, state }) => {
    const message = messageOf(update)
    if (message === undefined) return {}
    return sendMessage(message, answer(message, state))
  })
  return app
}

function answer ({ from, text = '' }: Message, { conversation, user }: TurnState): string {
  const count = conversation.update('messageCount', (n) => (n ?? 0) + 1)
  if (from === undefined) return `Message #${count} of this channel.`
  const name = /^\/name (.+)/.exec(text)?.[1]
  if (name !== undefined) user.set('name', name)
  return `Hello ${user.get('name') ?? from.first_name}, this is message #${count} of this chat.`
}
