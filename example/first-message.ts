/** A message as a channel posts it, to try a bot with. */
export const firstMessage = {
  type: 'message',
  id: '1',
  text: 'How are you?',
  channelId: 'test',
  from: { id: 'user-123' },
  recipient: { id: 'bot' },
  conversation: { id: 'conversation-1' },
  deliveryMode: 'expectReplies'
}
