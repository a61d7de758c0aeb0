import { buildBot } from '../../example/grammy/bot.js'
import { telegramSuite } from '../helpers/telegram-suite.js'

telegramSuite({ name: 'grammy', buildBot, refusal: 401, handlerTimeout: 10_000 })
