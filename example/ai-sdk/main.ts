import { FileStorage } from 'fastify-botas-state'
import { serve } from '../serve.js'
import { buildBot } from './bot.js'
import { orPretend } from './pretend-provider.js'

const { STATE_STORAGE, ASSISTANT_KEY } = process.env

await serve(await buildBot(STATE_STORAGE || new FileStorage('./state-data/ai-sdk'), await orPretend(process.env)), {
  options: ASSISTANT_KEY ? '-iN -H "authorization: Bearer $ASSISTANT_KEY"' : '-iN',
  path: '/api/chat',
  body: { id: 'conversation-1', messageId: String(Date.now()), user: 'user-123', text: 'How are you?' }
})
