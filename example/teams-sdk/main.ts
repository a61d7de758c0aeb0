import { FileStorage } from 'fastify-botas-state'
import { serve } from '../serve.js'
import { buildBot } from './bot.js'

const { PORT = '3978', STATE_STORAGE } = process.env

const bot = await buildBot(STATE_STORAGE || new FileStorage('./state-data/teams-sdk'))
// In place of Teams: the bot posts its answers to the serviceUrl of an activity, and here they are shown.
bot.post<{ Body: { text: string } }>('/v3/conversations/:id/activities', async ({ body }) => {
  console.log(body.text)
  return { id: 'answer' }
})
const ids = { recipient: { id: 'bot' }, conversation: { id: '1' }, from: { id: 'ada' } }
const body = { type: 'message', text: 'Hello', channelId: 'msteams', serviceUrl: `http://localhost:${PORT}`, ...ids }
await serve(bot, { path: '/api/messages', body })
