import { hash, timingSafeEqual } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import type { TurnIdentity } from 'fastify-botas-state'

/** What a client posts: the last message alone, as `prepareSendMessagesRequest` of useChat's transport makes it. */
export interface Chat {
  /** of the conversation */
  id: string
  messageId: string
  user: string
  text: string
}

const string = { type: 'string', minLength: 1 }

export const chatSchema = {
  type: 'object',
  required: ['id', 'messageId', 'user', 'text'],
  properties: { id: string, messageId: string, user: string, text: string }
}

/** Whose turn a request is, by its body or its path. Asked before the schema has checked the body. */
export function identify ({ body, params }: FastifyRequest): TurnIdentity | undefined {
  const { id, user, messageId } = Object.assign({}, params, body) as Partial<Chat>
  return id === undefined ? undefined : { channelId: 'chat', botId: 'assistant', conversationId: id, userId: user, activityId: messageId }
}

/** Whether a request has the key of those that may ask the assistant, and are trusted to say for which user they do. */
export function hasKey ({ headers: { authorization = '' } }: FastifyRequest, key: string): boolean {
  return timingSafeEqual(hash('sha256', authorization, 'buffer'), hash('sha256', `Bearer ${key}`, 'buffer'))
}
