import { FileStorage } from 'fastify-botas-state'
import { serve } from '../serve.js'
import { buildBot } from './bot.js'

const event = { type: 'message', channel: 'C1', user: 'U1', text: 'How are you?', ts: '1.0' }

await serve(await buildBot(process.env.STATE_STORAGE || new FileStorage('./state-data/bolt')), {
  path: '/slack/events', body: { type: 'event_callback', event_id: `Ev${Date.now()}`, api_app_id: 'A1', team_id: 'T1', event }
})
