import { FileStorage } from 'fastify-botas-state'
import { firstMessage } from '../first-message.js'
import { serve } from '../serve.js'
import { buildCounterBot } from './counter-bot.js'

const storage = process.env.STATE_STORAGE || new FileStorage('./state-data')

await serve(await buildCounterBot({ storage }), { path: '/api/messages', body: firstMessage })
