import t from 'tap'
import { startExample } from '../helpers/bot-process.js'
import { say } from '../helpers/counter-bot.js'
import { startRedis } from '../helpers/redis-server.js'

t.test('the bot on Redis starts while Redis is down, and stops', async (t) => {
  const bot = await startExample(t, 'redis/main.ts', t.testdir())
  t.equal(await bot.stop(), 0)
})

t.test('the bot on Redis remembers over a restart', async (t) => {
  const redis = await startRedis(t)
  const env = { STATE_STORAGE: redis.url }
  let bot = await startExample(t, 'redis/main.ts', t.testdir(), env)
  t.equal(await say(bot, 'Hello'), 'Turn #1 | Your message #1: Hello')
  t.equal(await bot.stop(), 0)
  bot = await startExample(t, 'redis/main.ts', t.testdir(), env)
  t.equal(await say(bot, 'Again'), 'Turn #2 | Your message #2: Again')
  t.equal(await bot.stop(), 0)
})
