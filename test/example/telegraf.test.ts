import { buildBot } from '../../example/telegraf/bot.js'
import { telegramSuite } from '../helpers/telegram-suite.js'

telegramSuite({ name: 'telegraf', buildBot, refusal: 403, handlerTimeout: 90_000 })
