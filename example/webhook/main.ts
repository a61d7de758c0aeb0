import { FileStorage } from 'fastify-botas-state'
import { serve } from '../serve.js'
import { buildGreeterBot } from './greeter-bot.js'

const { STATE_STORAGE, TELEGRAM_SECRET } = process.env

const update = {
  update_id: 1,
  message: { message_id: 1, date: 0, chat: { id: -100, type: 'group' }, from: { id: 7, is_bot: false, first_name: 'Ada' }, text: 'Hi there' }
}

await serve(await buildGreeterBot(STATE_STORAGE || new FileStorage('./state-data'), TELEGRAM_SECRET || undefined), {
  options: TELEGRAM_SECRET ? '-H "x-telegram-bot-api-secret-token: $TELEGRAM_SECRET"' : '', path: '/telegram', body: update
})
