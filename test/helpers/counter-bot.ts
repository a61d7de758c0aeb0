import type { BotProcess } from './bot-process.js'
import { post } from './build-fastify.js'

/** What the counter bot is told. */
export function message (text: unknown, rest: object = {}) {
  return {
    type: 'message',
    id: 'activity-1',
    text,
    channelId: 'test',
    from: { id: 'user-123' },
    recipient: { id: 'bot' },
    conversation: { id: 'conversation-1' },
    deliveryMode: 'expectReplies',
    ...rest
  }
}

/** Says something and gives the text of the reply. */
export async function say (bot: BotProcess, text: string, rest: object = {}): Promise<string> {
  const { body } = await post(bot.url, message(text, rest))
  return body.activities[0].text
}
