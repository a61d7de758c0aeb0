import { readFileSync } from 'node:fs'

interface MessageFields extends Record<string, unknown> {
  conversation?: string
  user?: string
}

/** A message as a channel posts it, with ids that can be left to their defaults. */
export function message ({ conversation = 'conversation-1', user = 'user-1', ...rest }: MessageFields = {}) {
  return {
    type: 'message',
    id: 'activity-1',
    channelId: 'test',
    recipient: { id: 'bot' },
    conversation: { id: conversation },
    from: { id: user },
    ...rest
  }
}

export const CONVERSATION_KEY = 'test/bot/conversations/conversation-1'
export const USER_KEY = 'test/bot/users/user-1'

type Recorded = 'personal-message' | 'personal-conversation-update' | 'channel-conversation-update' | 'directline-conversation-update' |
  'skill-end-of-conversation-recipient-role-only' | 'teams-channel-reply-no-replyToId' | 'teams-compose-extension-query' |
  'telegram-channel-post-from-missing' | 'webchat-empty-user-id'

/** What the Microsoft 365 Agents Playground or a channel posted. */
export function recorded (name: Recorded) {
  return JSON.parse(readFileSync(new URL(`../activities/${name}.json`, import.meta.url), 'utf8'))
}

/** What cannot be an id, and what an error says of it. */
export const badIds: Array<[unknown, RegExp]> = [
  [7, /a number/], [true, /a boolean/], [['a'], /an array/], [{}, /an object/], ['a'.repeat(1025), /1025 characters/],
  ['a'.repeat(2 ** 21), /2097152 characters/], ['\ud800', /surrogate/], ['a\udc00b', /surrogate/], ['a\nb', /control/],
  ['\0', /control/], ['\x7f', /control/], ['\x85', /control/]
]
