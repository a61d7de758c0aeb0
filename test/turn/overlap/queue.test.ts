import { setTimeout as wait } from 'node:timers/promises'
import type { FastifyServerOptions } from 'fastify'
import t from 'tap'
import type { BotasStateOptions } from '../../../lib/index.js'
import { message } from '../../helpers/activities.js'
import { buildFastify, post, settled } from '../../helpers/build-fastify.js'
import { onEachStorage } from '../../helpers/overlap-storages.js'
import { published } from '../../helpers/published.js'

interface Work {
  begun: number
  ended: number
}

/** A bot that appends what it is told to what it read before it thought about it: only turns one after another keep all. */
async function appendingBot (t: Parameters<typeof buildFastify>[0], options: BotasStateOptions, think = () => Math.random() * 5, serverOptions: FastifyServerOptions = {}) {
  const work: Work[] = []
  const server = await buildFastify(t, options, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation } }) => {
      const begun = performance.now()
      const texts = conversation.get<string[]>('texts') ?? []
      await wait(think())
      conversation.set('texts', [...texts, text])
      work.push({ begun, ended: performance.now() })
      return { texts: texts.length }
    })
  }, serverOptions)
  return { ...server, work }
}

const UNLIMITED = { strategy: 'queue', maxWaiting: 1000 } as const

onEachStorage(t, 'with queue every turn sees what the one before it stored, in the order of arrival', async (t, open) => {
  const { app, url, work } = await appendingBot(t, { storage: open(), concurrency: UNLIMITED })
  const texts = Array.from({ length: 50 }, (_, n) => String(n))
  // One connection keeps them in order.
  const replies = await Promise.all(texts.map((text) => app.inject({ method: 'POST', url: '/', payload: message({ text }) })))
  t.strictSame(replies.map((reply) => reply.json().texts), texts.map(Number))
  t.strictSame((await app.botasState.run(IDENTITY, ({ conversation }) => conversation.get('texts'))), texts)
  t.ok(work.every(({ begun }, index) => index === 0 || begun >= (work[index - 1] as Work).ended), 'no two at work at once')
  t.match(app.botasState.stats, { openTurns: 0, waitingTurns: 0, leasesLost: 0, flushRetries: 0 })
  t.equal((await post(url, message({ text: 'one more' }))).body.texts, 50)
})

const IDENTITY = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1' }

onEachStorage(t, 'turns of other conversations do not wait', async (t, open) => {
  const { app } = await appendingBot(t, { storage: open(), concurrency: 'queue' }, () => 300)
  const begun = performance.now()
  await Promise.all(Array.from({ length: 20 }, (_, n) => app.inject({ method: 'POST', url: '/', payload: message({ conversation: `c${n}`, text: '' }) })))
  t.ok(performance.now() - begun < 1500)
})

t.test('without a conversation the turns of one user wait for each other', async (t) => {
  const running: string[] = []
  const { app } = await buildFastify(t, { concurrency: 'queue' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text } }) => {
      running.push(text)
      await wait(20)
      running.push(text)
    })
  })
  await Promise.all(['a', 'b'].map((text) => app.inject({ method: 'POST', url: '/', payload: { ...message({ text }), conversation: undefined } })))
  t.strictSame(running, ['a', 'a', 'b', 'b'])
})

onEachStorage(t, 'a turn that fails makes room for the next one', async (t, open) => {
  const { app } = await buildFastify(t, { storage: open(), concurrency: 'queue' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation } }) => {
      conversation.update<number>('n', (n = 0) => n + 1)
      await wait(5)
      if (text === 'fail') throw new Error('no')
      return { n: conversation.get('n') }
    })
  })
  const replies = await Promise.all(['fail', 'ok', 'fail', 'ok'].map((text) => app.inject({ method: 'POST', url: '/', payload: message({ text }) })))
  t.strictSame(replies.map(({ statusCode }) => statusCode), [500, 200, 500, 200])
  t.strictSame(replies[3]?.json(), { n: 2 })
})

onEachStorage(t, 'a turn whose client left while it waited runs all the same, in its place', async (t, open) => {
  const { app, url } = await appendingBot(t, { storage: open(), concurrency: 'queue' }, () => 100)
  const first = post(url, message({ text: 'first' }))
  await settled(() => app.botasState.stats.openTurns === 1)
  const leaving = new AbortController()
  const second = fetch(url, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(message({ text: 'second' })), signal: leaving.signal
  }).catch(() => {})
  await settled(() => app.botasState.stats.waitingTurns === 1)
  const third = post(url, message({ text: 'third' }))
  await settled(() => app.botasState.stats.waitingTurns === 2)
  leaving.abort()
  await Promise.all([first, second, third])
  t.strictSame(await app.botasState.run(IDENTITY, ({ conversation }) => conversation.get('texts')), ['first', 'second', 'third'])
})

onEachStorage(t, 'more than maxWaiting, or longer than maxWait, is a 503 that says when to come again', async (t, open) => {
  const { app, url } = await appendingBot(t, { storage: open(), concurrency: { strategy: 'queue', maxWaiting: 1, maxWait: 150 } }, () => 400)
  const first = post(url, message({ text: 'first' }))
  await settled(() => app.botasState.stats.openTurns === 1)
  const second = fetchMessage(url, 'second')
  await settled(() => app.botasState.stats.waitingTurns === 1)
  const third = await fetchMessage(url, 'third')
  t.equal(app.botasState.stats.waitingTurns, 1)
  for (const refused of [third, await second]) {
    t.equal(refused.status, 503)
    t.equal(refused.headers.get('retry-after'), '1')
    t.match(await refused.json(), { code: 'FST_BOTAS_STATE_BUSY' })
  }
  t.equal((await first).status, 200)
  t.equal((await post(url, message({ text: 'fourth' }))).status, 200)
  t.strictSame(await app.botasState.run(IDENTITY, ({ conversation }) => conversation.get('texts')), ['first', 'fourth'])
})

function fetchMessage (url: string, text: string) {
  return fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(message({ text })) })
}

t.test('with maxWaiting 0 nobody waits', async (t) => {
  const { app, url } = await appendingBot(t, { concurrency: { strategy: 'queue', maxWaiting: 0 } }, () => 100)
  const first = post(url, message({ text: 'first' }))
  await settled(() => app.botasState.stats.openTurns === 1)
  t.equal((await post(url, message({ text: 'second' }))).status, 503)
  t.equal((await first).status, 200)
})

onEachStorage(t, 'closing the server answers those that wait within a second, and lets those finish that hold a place', async (t, open) => {
  const { app, url } = await appendingBot(t, { storage: open(), concurrency: 'queue' }, () => 1500, { forceCloseConnections: false, keepAliveTimeout: 100 })
  const first = post(url, message({ text: 'first' }))
  await settled(() => app.botasState.stats.openTurns === 1)
  const others = ['second', 'third'].map((text) => fetchMessage(url, text))
  await settled(() => app.botasState.stats.waitingTurns === 2)
  const begun = performance.now()
  const closed = app.close()
  for (const reply of await Promise.all(others)) {
    t.equal(reply.status, 503)
    t.equal(reply.headers.get('retry-after'), '1')
  }
  t.ok(performance.now() - begun < 1000)
  t.equal((await first).status, 200)
  await closed
})

t.test('an error handler answers in words', async (t) => {
  const { app, url } = await buildFastify(t, { concurrency: 'reject' }, (app) => {
    app.setErrorHandler<Error & { code?: string }>((error, _request, reply) => error.code === 'FST_BOTAS_STATE_BUSY' ? reply.code(200).send({ text: 'One moment…' }) : reply.send(error))
    app.post('/', async () => wait(100))
  })
  const first = post(url, message())
  await settled(() => app.botasState.stats.openTurns === 1)
  t.strictSame((await post(url, message())).body, { text: 'One moment…' })
  await first
})

t.test('waiting is counted, and published', async (t) => {
  const events = published(t, 'botas-state:place')
  const { app, url } = await appendingBot(t, { concurrency: { strategy: 'queue', maxWait: 100 } }, () => 200)
  const first = post(url, message({ text: '1' }))
  await settled(() => app.botasState.stats.openTurns === 1)
  t.equal((await post(url, message({ text: '2' }))).status, 503)
  t.equal((await first).status, 200)
  const key = 'test/bot/conversations/conversation-1'
  t.match(events, [
    { key, waited: Number, outcome: 'success' }, { key, waited: Number, outcome: 'failure', code: 'FST_BOTAS_STATE_BUSY' }
  ])
  const [taken, refused] = events as Array<{ waited: number }>
  t.ok((taken?.waited ?? 99) < 50 && (refused?.waited ?? 0) >= 99)
  t.match(app.botasState.stats, { loads: 1, loadFailures: 0 })
})
