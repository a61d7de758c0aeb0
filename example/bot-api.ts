import Fastify, { type FastifyInstance } from 'fastify'
import { FileStorage, type Storage } from 'fastify-botas-state'
import { serve } from './serve.js'

/** An update as Telegram posts it, to try a bot with: another one each time that a bot starts. */
export const firstUpdate = {
  update_id: Date.now(),
  message: {
    message_id: 1,
    date: 0,
    chat: { id: -100, type: 'group', title: 'Friends' },
    from: { id: 7, is_bot: false, first_name: 'Ada' },
    text: 'How are you?'
  }
}

/** A stand-in for Telegram's Bot API, for bots without a token of their own. */
export interface BotApi {
  /** for the bot: a token, and where the stand-in listens */
  env: { BOT_TOKEN: string, TELEGRAM_API_ROOT: string }
  close (): Promise<void>
}

/** @param onMessage is told what the bot sends; where it throws, the message is refused */
export async function startBotApi (onMessage: (text: string) => void): Promise<BotApi> {
  const api = Fastify({ forceCloseConnections: true })
  api.post('/bot:token/getMe', async () => ({ ok: true, result: { id: 42, is_bot: true, first_name: 'Bot', username: 'a_bot' } }))
  api.post<{ Body: { chat_id: number, text: string } }>('/bot:token/sendMessage', async ({ body }) => {
    onMessage(body.text)
    return { ok: true, result: { message_id: 2, date: 0, chat: { id: body.chat_id, type: 'group', title: 'Friends' }, text: body.text } }
  })
  const url = await api.listen({ host: '127.0.0.1', port: 0 })
  return { env: { BOT_TOKEN: '42:secret-token', TELEGRAM_API_ROOT: url }, close: () => api.close() }
}

/** Serves a bot. Without a token of @BotFather's it talks to the stand-in, and what it says is shown here. */
export async function serveTelegramBot (buildBot: (storage: Storage | string, env: NodeJS.ProcessEnv) => Promise<FastifyInstance>): Promise<void> {
  const { BOT_TOKEN, STATE_STORAGE, TELEGRAM_SECRET } = process.env
  const api = BOT_TOKEN ? undefined : await startBotApi((text) => console.log(`The bot says: ${text}`))
  const bot = await buildBot(STATE_STORAGE || new FileStorage('./state-data/telegram'), { ...process.env, ...api?.env })
  bot.addHook('onClose', async () => api?.close())
  const options = TELEGRAM_SECRET ? '-H "x-telegram-bot-api-secret-token: $TELEGRAM_SECRET"' : ''
  await serve(bot, { options, path: '/telegram', body: firstUpdate })
}
