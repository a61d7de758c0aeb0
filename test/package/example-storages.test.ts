import t from 'tap'
import { startExample } from '../helpers/bot-process.js'
import { blobConnectionString, startAzurite, startCosmos } from '../helpers/azure-servers.js'
import { say } from '../helpers/counter-bot.js'
import { startPostgres } from '../helpers/postgres-server.js'

const kinds: Record<string, (t: import('tap').Test) => Promise<[example: string, env: Record<string, string>]>> = {
  async Postgres (t) {
    const { url } = await startPostgres(t)
    return ['counter-bot/main.ts', { STATE_STORAGE: url }]
  },
  async 'Azure Blob Storage' (t) {
    return ['blob/main.ts', { AZURE_STORAGE_CONNECTION_STRING: blobConnectionString((await startAzurite(t)).port) }]
  },
  async 'Azure Cosmos DB' (t) {
    return ['cosmos/main.ts', { COSMOS_ENDPOINT: `http://127.0.0.1:${(await startCosmos(t)).port}` }]
  }
}

for (const [name, prepare] of Object.entries(kinds)) {
  t.test(`the counter bot on ${name} remembers over a restart`, async (t) => {
    const [example, env] = await prepare(t)
    let bot = await startExample(t, example, t.testdir(), env)
    t.equal(await say(bot, 'Hello'), 'Turn #1 | Your message #1: Hello')
    t.equal(await bot.stop(), 0)
    bot = await startExample(t, example, t.testdir(), env)
    t.equal(await say(bot, 'Again'), 'Turn #2 | Your message #2: Again')
    t.equal(await bot.stop(), 0)
  })
}
