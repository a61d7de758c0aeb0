import { serveTelegramBot } from '../bot-api.js'
import { buildBot } from './bot.js'

await serveTelegramBot(buildBot)
