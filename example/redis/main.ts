import { RedisStorage } from 'fastify-botas-state/redis'
import { buildCounterBot } from '../counter-bot/counter-bot.js'
import { firstMessage } from '../first-message.js'
import { serve } from '../serve.js'

const storage = process.env.STATE_STORAGE || new RedisStorage('redis://localhost:6379')

// Saved before the reply leaves: the next message may reach another replica.
await serve(await buildCounterBot({ storage, flush: 'onSend' }), { path: '/api/messages', body: firstMessage })
