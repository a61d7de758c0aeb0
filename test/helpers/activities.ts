import { readFileSync } from 'node:fs'

/** A message as a channel posts it, with ids that can be left to their defaults. */
export function message ({ channelId = 'test', bot = 'bot', conversation = 'conversation-1', user = 'user-1', ...rest } = {}) {
  return {
    type: 'message',
    id: 'activity-1',
    channelId,
    recipient: { id: bot },
    conversation: { id: conversation },
    from: { id: user },
    ...rest
  }
}

export const CONVERSATION_KEY = 'test/bot/conversations/conversation-1'
export const USER_KEY = 'test/bot/users/user-1'

/** What the Microsoft 365 Agents Playground posted. */
export function recorded (name: 'personal-message' | 'personal-conversation-update' | 'channel-conversation-update') {
  return JSON.parse(readFileSync(new URL(`../activities/${name}.json`, import.meta.url), 'utf8'))
}
