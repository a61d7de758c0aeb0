import { FileStorage } from 'fastify-botas-state'
import { firstUpdate as body, startBotApi } from '../bot-api.js'
import { serve } from '../serve.js'
import { buildBot } from './bot.js'

const { BOT_TOKEN, STATE_STORAGE, TELEGRAM_SECRET } = process.env
const options = TELEGRAM_SECRET ? '-H "x-telegram-bot-api-secret-token: $TELEGRAM_SECRET"' : ''
// Without a token of @BotFather's the bot talks to a stand-in, and what it says is shown here.
const api = BOT_TOKEN ? undefined : await startBotApi((text) => console.log(`The bot says: ${text}`))
const bot = await buildBot(STATE_STORAGE || new FileStorage('./state-data'), { ...process.env, ...api?.env })
bot.addHook('onClose', async () => api?.close())
await serve(bot, { options, path: '/telegram', body })
