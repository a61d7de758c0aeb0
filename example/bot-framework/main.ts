import { FileStorage } from 'fastify-botas-state'
import { firstMessage } from '../first-message.js'
import { serve } from '../serve.js'
import { buildBot } from './bot.js'

// Without an id each message is a new one.
const { id, ...message } = firstMessage

await serve(await buildBot(process.env.STATE_STORAGE || new FileStorage('./state-data/bot-framework')), { path: '/api/messages', body: message })
