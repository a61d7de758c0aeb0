import { timingSafeEqual } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import type { TurnIdentity } from 'fastify-botas-state'

/** What the bot uses of an update of Telegram's Bot API. */
export interface Update {
  update_id: number
  message?: Message
  /** in place of a message; a channel posts in its own name, without `from` */
  channel_post?: Message
}

/** A message in a chat, or a post in a channel. */
export interface Message {
  chat: { id: number }
  from?: { id: number, first_name: string }
  text?: string
}

/** What the contexts of grammY and of Telegraf have in common. */
interface UpdateContext {
  update: { update_id?: number }
  chat?: { id: number } | undefined
  from?: { id: number } | undefined
}

const messageSchema = {
  type: 'object',
  required: ['chat'],
  properties: {
    chat: { type: 'object', required: ['id'], properties: { id: { type: 'integer' } } },
    from: { type: 'object', required: ['id'], properties: { id: { type: 'integer' } } },
    text: { type: 'string' }
  }
}

export const updateSchema = {
  type: 'object',
  required: ['update_id'],
  properties: { update_id: { type: 'integer' }, message: messageSchema, channel_post: messageSchema }
}

/** `undefined` where an update is about something else: an edit, a poll, a new member. */
export function messageOf ({ message, channel_post: post }: Partial<Update>): Message | undefined {
  return message ?? post
}

/** Whose turn an update is: a group chat is one conversation of several users. Asked before the schema has checked the body. */
export function identify (request: FastifyRequest): TurnIdentity | undefined {
  const update = (request.body ?? {}) as Partial<Update>
  const message = messageOf(update)
  if (typeof message?.chat?.id !== 'number') return undefined
  return identityOf('greeter', { update, ...message })
}

/** The same of what an SDK knows of an update, its context; it has no chat where the update is about a poll, for instance. */
export function identityOf (botId: string | number, { update, chat, from }: UpdateContext): TurnIdentity {
  return {
    channelId: 'telegram',
    botId: String(botId),
    conversationId: chat?.id.toString(),
    userId: from?.id?.toString(),
    activityId: update.update_id?.toString()
  }
}

/** A message to send, which Telegram takes as the answer to its update. */
export function sendMessage ({ chat }: Message, text: string): object {
  return { method: 'sendMessage', chat_id: chat.id, text }
}

/** Whether a request has the secret that was given to Telegram with the webhook's address. */
export function isFromTelegram ({ headers }: FastifyRequest, secret: string): boolean {
  const given = Buffer.from(String(headers['x-telegram-bot-api-secret-token']))
  const expected = Buffer.from(secret)
  return given.length === expected.length && timingSafeEqual(given, expected)
}
