import { RedisStorage } from 'fastify-botas-state/redis'
import { firstMessage } from '../first-message.js'
import { buildCounterBot } from '../counter-bot/counter-bot.js'
import { serve } from '../serve.js'

await serve(await buildCounterBot(process.env.STATE_STORAGE || new RedisStorage('redis://localhost:6379')), { path: '/api/messages', body: firstMessage })
