import { FileStorage } from 'fastify-botas-state'
import { firstMessage } from '../first-message.js'
import { serve } from '../serve.js'
import { buildCounterBot } from './counter-bot.js'

await serve(await buildCounterBot(process.env.STATE_STORAGE || new FileStorage('./state-data')), { path: '/api/messages', body: firstMessage })
