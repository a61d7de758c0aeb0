import { Readable } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import type { BotasStateOptions } from '../../../lib/index.js'
import { message } from '../../helpers/activities.js'
import { buildFastify, post, settled } from '../../helpers/build-fastify.js'
import { onEachStorage } from '../../helpers/overlap-storages.js'

const IDENTITY = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1' }

/** A bot with a model that writes until it is told to stop, at 10 ms a token. */
async function modelBot (t: Parameters<typeof buildFastify>[0], options: BotasStateOptions, tokens = 100) {
  const asked: Record<string, number> = {}
  const server = await buildFastify(t, options, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state }) => {
      asked[text] = 0
      while (!state.signal.aborted && asked[text] < tokens) {
        await wait(10)
        asked[text]++
      }
      state.conversation.set(text, asked[text])
      return { text }
    })
  })
  return { ...server, asked }
}

onEachStorage(t, 'with reject a turn that meets another one is a 409', async (t, open) => {
  const { app, url } = await modelBot(t, { storage: open(), concurrency: 'reject' }, 20)
  const first = post(url, message({ text: 'first' }))
  await settled(() => app.botasState.stats.openTurns === 1)
  const second = await post(url, message({ text: 'second' }))
  t.equal(second.status, 409)
  t.match(second.body, { code: 'FST_BOTAS_STATE_BUSY' })
  t.equal((await first).status, 200)
  t.equal((await post(url, message({ text: 'third' }))).status, 200)
  t.strictSame(Object.keys(await app.botasState.run(IDENTITY, ({ conversation }) => conversation.toJSON())), ['first', 'third'])
})

onEachStorage(t, 'with replace of ten messages at once nine are aborted, and nothing of theirs is stored', async (t, open) => {
  const servers = await Promise.all([1, 2].map(() => modelBot(t, { storage: open(), concurrency: 'replace' }, 30)))
  const replies = await Promise.all(Array.from({ length: 10 }, async (_, n) => {
    await wait(10 * n)
    return post((servers[n % 2] as typeof servers[0] & {}).url, message({ text: `m${n}` }))
  }))
  // Two servers may get the last ones in another order.
  const saved = replies.findIndex(({ status }) => status === 200)
  t.ok(saved >= 7, `the one that came last is saved, ${saved}`)
  t.strictSame(replies.map(({ status }) => status), replies.map((_, n) => n === saved ? 200 : 409))
  t.match(replies[0]?.body, { code: 'FST_BOTAS_STATE_REPLACED' })
  const { app } = servers[0] as typeof servers[0] & {}
  t.strictSame(await app.botasState.run(IDENTITY, ({ conversation }) => conversation.toJSON()), { [`m${saved}`]: 30 })
  const replaced = servers.reduce((sum, { app }) => sum + app.botasState.stats.replacedTurns, 0)
  t.equal(replaced, 9)
  const asked = Object.assign({}, ...servers.map(({ asked }) => asked))
  for (const [text, tokens] of Object.entries<number>(asked)) if (text !== `m${saved}`) t.ok(tokens < 30, `${text} stopped after ${tokens} tokens`)
})

onEachStorage(t, 'a replaced turn answers in words, and can find out why; what it changes throws', async (t, open) => {
  let isAtWork = false
  const { app, url } = await buildFastify(t, { storage: open(), concurrency: 'replace' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state }) => {
      isAtWork = true
      state.conversation.set('before', text)
      if (text === 'second') return { text }
      await new Promise((resolve) => state.signal.addEventListener('abort', resolve))
      try {
        state.conversation.set('after', text)
      } catch (error) {
        const { code } = error as { code: string }
        return { text: 'Never mind.', code, reason: state.signal.reason.code, seen: state.conversation.get('before') }
      }
    })
  })
  const first = post(url, message({ text: 'first' }))
  await settled(() => isAtWork)
  t.strictSame((await post(url, message({ text: 'second' }))).body, { text: 'second' })
  const code = 'FST_BOTAS_STATE_REPLACED'
  t.strictSame(await first, { status: 200, body: { text: 'Never mind.', code, reason: code, seen: 'first' }, text: (await first).text })
  t.strictSame(await app.botasState.run(IDENTITY, ({ conversation }) => conversation.toJSON()), { before: 'second' })
})

onEachStorage(t, 'a turn that was answered is saved, however soon the next one of its client comes', async (t, open) => {
  const { app, url } = await buildFastify(t, { storage: open(), concurrency: 'replace' }, (app) => {
    app.post('/', async ({ state: { conversation } }) => ({ n: conversation.update<number>('n', (n = 0) => n + 1) }))
  })
  for (let n = 1; n <= 50; n++) t.strictSame((await post(url, message())).body, { n })
  t.equal(app.botasState.stats.replacedTurns, 0)
})

t.test('a function chooses for each request; what did not come to be replaced is waited for', async (t) => {
  const { app, url } = await buildFastify(t, {
    concurrency: ({ body }) => ({ typing: 'parallel', payment: 'queue', message: 'replace' } as const)[(body as { type: 'typing' | 'payment' | 'message' }).type]
  }, (app) => {
    app.post<{ Body: { type: string } }>('/', async ({ body: { type }, state: { conversation, signal } }) => {
      if (type !== 'typing') await wait(100)
      conversation.update<number>(type, (n = 0) => n + 1)
      return { aborted: signal.aborted }
    })
  })
  const payment = post(url, message({ type: 'payment' }))
  await settled(() => app.botasState.stats.openTurns === 1)
  const replacing = post(url, message({ type: 'message' }))
  await settled(() => app.botasState.stats.waitingTurns === 1)
  t.equal((await post(url, message({ type: 'typing' }))).status, 200)
  t.equal(app.botasState.stats.openTurns, 2)
  t.strictSame((await payment).body, { aborted: false })
  t.equal((await replacing).status, 200)
  t.strictSame(await app.botasState.run(IDENTITY, ({ conversation }) => conversation.toJSON()), { typing: 1, payment: 1, message: 1 })
  const unknown = await post(url, message({ type: 'reaction' }))
  t.match(unknown, { status: 500, body: { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /one of parallel, queue, reject, replace/ } })
})

onEachStorage(t, 'a model that streams its reply stops when its turn is replaced, and nothing of the turn is stored', async (t, open) => {
  const asked: Record<string, number> = {}
  const { app, url } = await buildFastify(t, { storage: open(), concurrency: 'replace' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state }, reply) => {
      state.conversation.set(text, true)
      return reply.type('text/plain').send(Readable.from((async function * tokens () {
        for (asked[text] = 0; asked[text] < 30 && !state.signal.aborted; asked[text]++) {
          yield `${text} `
          await wait(10)
        }
      })()))
    })
  })
  const stream = async (text: string) => (await fetch(url, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(message({ text }))
  })).text()
  const first = stream('first')
  await settled(() => (asked.first ?? 0) > 2)
  t.equal(await stream('second'), 'second '.repeat(30))
  t.ok((await first).length < 30 * 'first '.length)
  t.ok((asked.first ?? 30) < 30)
  await settled(() => app.botasState.stats.openTurns === 0)
  t.strictSame(await app.botasState.run(IDENTITY, ({ conversation }) => conversation.toJSON()), { second: true })
})
