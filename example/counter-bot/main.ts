import { FileStorage } from 'fastify-botas-state'
import { serve } from '../serve.js'
import { buildCounterBot } from './counter-bot.js'

await serve(await buildCounterBot(process.env.STATE_STORAGE || new FileStorage('./state-data')))
