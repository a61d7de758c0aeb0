import { FileStorage } from 'fastify-botas-state'
import { inspector } from 'fastify-botas-state/inspector'
import { firstMessage } from '../first-message.js'
import { serve } from '../serve.js'
import { buildCounterBot } from './counter-bot.js'

const storage = process.env.STATE_STORAGE || new FileStorage('./state-data')

const bot = await buildCounterBot({ storage })
if (process.env.NODE_ENV !== 'production') await bot.register(inspector, { prefix: '/inspector' })
await serve(bot, { path: '/api/messages', body: firstMessage })
