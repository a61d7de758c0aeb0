import { FileStorage } from 'fastify-botas-state'
import { firstMessage } from '../first-message.js'
import { serve } from '../serve.js'
import { buildChatBot } from './chat-bot.js'

await serve(await buildChatBot(process.env.STATE_STORAGE || new FileStorage('./state-data/chat')), {
  options: '-N', path: '/api/messages', body: firstMessage
})
