import Fastify, { type FastifyInstance } from 'fastify'
import botasState, { type Storage, type TurnState } from 'fastify-botas-state'
import { Bot, type Context, webhookCallback } from 'grammy'
import { answer } from '../answer.js'
import { identityOf } from '../webhook/telegram.js'

/** A context flavor: each update is a turn. */
type BotContext = Context & { botState: TurnState }

/** A bot of grammY behind a webhook. `TELEGRAM_SECRET` is the `secret_token` of its `setWebhook`. */
export async function buildBot (storage: Storage | string, env: NodeJS.ProcessEnv = process.env): Promise<FastifyInstance> {
  const { BOT_TOKEN = '', TELEGRAM_API_ROOT: apiRoot = 'https://api.telegram.org', TELEGRAM_SECRET: secretToken = '' } = env
  // grammY's errors bring along the context, and with it the token of the bot.
  const app = Fastify({ logger: { level: 'warn', redact: { paths: ['err.ctx', 'err.error'], remove: true } } })
  // The request itself is no turn: the bot begins one when grammY has checked the secret.
  await app.register(botasState, { storage, identify: () => undefined, once: true, concurrency: 'queue' })

  const bot = new Bot<BotContext>(BOT_TOKEN, { client: { apiRoot } })
  // Before all other middleware. What that throws fails the turn, and Telegram gets a 500 and delivers the update again.
  bot.use((ctx, next) => app.botasState.run(identityOf(ctx.me.id, ctx), (state) => {
    ctx.botState = state
    return next()
  }))
  bot.on('message:text', async (ctx) => {
    await ctx.reply(await answer(ctx.botState, ctx.message.text))
  })
  await bot.init()

  // Telegram waits for a minute, and delivers again. After a timeout of grammY's own, which is 10 seconds, a handler that throws
  // would end the process.
  app.post('/telegram', webhookCallback(bot, 'fastify', { timeoutMilliseconds: Infinity, ...secretToken && { secretToken } }))
  return app
}
