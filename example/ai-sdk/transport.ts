import { DefaultChatTransport, type UIMessage } from 'ai'

/** For `useChat({ id, transport })` in a browser: posts the last message alone, for the assistant remembers the others. */
export function transportTo (api: string, user: string): DefaultChatTransport<UIMessage> {
  return new DefaultChatTransport({
    api,
    prepareSendMessagesRequest ({ id, messages }) {
      const message = messages.at(-1)
      const text = message?.parts.map((part) => part.type === 'text' ? part.text : '').join('')
      return { body: { id, messageId: message?.id, user, text } }
    }
  })
}
