import Fastify, { type FastifyInstance } from 'fastify'
import botasState, { type Storage, type TurnState } from 'fastify-botas-state'
import { type Context, Telegraf } from 'telegraf'
import { message } from 'telegraf/filters'
import type { Update } from 'telegraf/types'
import { answer } from '../answer.js'
import { identityOf } from '../webhook/telegram.js'

interface BotContext extends Context {
  /** `ctx.state` is Telegraf's own, and forgotten with the update. */
  botState: TurnState
}

/** A bot of Telegraf's behind a webhook. `TELEGRAM_SECRET` is the `secret_token` of its `setWebhook`. */
export async function buildBot (storage: Storage | string, env: NodeJS.ProcessEnv = process.env): Promise<FastifyInstance> {
  const { BOT_TOKEN = '', TELEGRAM_API_ROOT: apiRoot = 'https://api.telegram.org', TELEGRAM_SECRET: secretToken = '' } = env
  // Telegraf's errors bring along what was to be sent.
  const app = Fastify({ logger: { level: 'warn', redact: { paths: ['err.on'], remove: true } } })
  // The request itself is no turn: the bot begins one.
  await app.register(botasState, { storage, identify: () => undefined, once: true, concurrency: 'queue' })

  // Telegram waits for a minute, and delivers again; what is thrown after a timeout of Telegraf's own nobody would hear of.
  const bot = new Telegraf<BotContext>(BOT_TOKEN, { telegram: { apiRoot }, handlerTimeout: Infinity })
  // Before all other middleware. What that throws fails the turn.
  bot.use((ctx, next) => app.botasState.run(identityOf(ctx.botInfo.id, ctx), (state) => {
    ctx.botState = state
    return next()
  }))
  bot.on(message('text'), async (ctx) => {
    await ctx.reply(await answer(ctx.botState, ctx.message.text))
  })
  // Telegram gets a 500, and delivers the update again.
  bot.catch((error) => { throw error })
  // Asked by the first update it would be asked once only, also where it fails.
  bot.botInfo = await bot.telegram.getMe()

  const path = '/telegram'
  app.post<{ Body: Update }>(path, {
    onRequest: async ({ raw }, reply) => {
      if (!bot.webhookFilter.call({ hookPath: path, path, secretToken }, raw)) return reply.code(403).send()
    }
  }, ({ body }) => bot.handleUpdate(body))
  return app
}
