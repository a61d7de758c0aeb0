import { cp, readFile, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import type { fastify as build } from 'fastify'
import t from 'tap'
import botasState from '../../lib/index.js'
import { CONVERSATION_KEY, message } from '../helpers/activities.js'
import { slowStorage } from '../helpers/slow-storage.js'

for (const symbol of ['fastify.context', 'fastify.Reply']) {
  t.test(`a Fastify that hides ${symbol} is warned of, and what is declared after the plugin holds all the same`, async (t) => {
    const require = createRequire(import.meta.url)
    const directory = join(t.testdir(), 'fastify')
    await cp(dirname(require.resolve('fastify/package.json')), directory, { recursive: true })
    const symbols = join(directory, 'lib/symbols.js')
    await writeFile(symbols, (await readFile(symbols, 'utf8')).replace(`Symbol('${symbol}')`, "Symbol('hidden')"))
    const Fastify = require(directory) as typeof build

    const lines: string[] = []
    const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { lines.push(line) } } } })
    t.teardown(() => app.close())
    const storage = slowStorage()
    await app.register(botasState, { storage, flush: 'onSend' })
    t.match(lines.map((line) => JSON.parse(line).msg), [/hides its routes.*await the registration/])
    app.post<{ Body: { text: string } }>('/', async ({ body, state }, reply) => {
      state.conversation.set('said', body.text)
      reply.send({ fine: true })
      await wait(5)
      if (body.text === 'throw') throw new Error('no')
    })
    const say = (text: string) => app.inject({ method: 'POST', url: '/', payload: message({ text }) })
    t.match(await say('fine'), { statusCode: 200, body: '{"fine":true}' })
    t.equal((await say('throw')).statusCode, 500)
    t.strictSame(await storage.stored(CONVERSATION_KEY), { said: 'fine' })
  })
}
