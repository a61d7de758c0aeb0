import { setTimeout as wait } from 'node:timers/promises'
import type { Test } from 'tap'
import type { BotasStateOptions, StateDocument } from '../../lib/index.js'
import { CONVERSATION_KEY, message } from './activities.js'
import { type TestServer, buildFastify, post, settled } from './build-fastify.js'
import { startProcess } from './node-process.js'
import type { TestedServer } from './tested-servers.js'

/** A bot that counts, with the health route of the README. */
export async function startBot (t: Test, options: BotasStateOptions): Promise<TestServer> {
  return buildFastify(t, options, (app) => {
    app.get('/health', async (_request, reply) => {
      const { outage, openTurns, pendingFlushes, flushFailures } = app.botasState.stats
      return reply.code(outage === null ? 200 : 503).send({ storage: outage === null, openTurns, pendingFlushes, flushFailures })
    })
    app.post<{ Body: { id: string } }>('/', async ({ id, state: { conversation }, body }) => {
      conversation.update<number>('count', (count) => (count ?? 0) + 1)
      conversation.set(body.id, true)
      return { reqId: id }
    })
  })
}

/** Turns of several clients at once, through an outage of three seconds. */
async function underLoad (t: Test, { app, url }: TestServer, outage: () => Promise<void>) {
  const answered = new Map<string, string>()
  const refused = new Set<string>()
  const conversations = 20
  const over = new AbortController()
  let next = 0
  let longest = 0
  const client = async (client: number) => {
    while (!over.signal.aborted) {
      const id = `turn-${next++}`
      const before = performance.now()
      const { status, body } = await post(url, message({ conversation: String(client % conversations), id }))
      longest = Math.max(longest, performance.now() - before)
      if (status === 200) answered.set(id, body.reqId)
      else refused.add(id)
    }
  }
  const clients = Promise.all(Array.from({ length: 2 * conversations }, (_, index) => client(index)))
  await wait(500)
  await outage()
  await wait(500)
  over.abort()
  await clients
  await settled(() => app.botasState.stats.pendingFlushes === 0)
  const keys = Array.from({ length: conversations }, (_, index) => `test/bot/conversations/${index}`)
  const documents = Object.values(await app.botasState.storage.read(keys)) as StateDocument[]
  const stored = new Set(documents.flatMap((document) => Object.keys(document).filter((name) => name !== 'count')))
  t.comment(`${answered.size} turns answered, ${refused.size} refused, the longest took ${Math.round(longest)} ms; ${JSON.stringify(app.botasState.stats)}`)
  for (const document of documents) t.equal(document.count, Object.keys(document).length - 1, 'no turn is counted twice')
  return { answered, refused, stored }
}

const isOutageLine = ({ msg }: { msg: string }): boolean => msg.includes('cannot be reached')

/**
 * What turns promise while their storage is down, hangs, comes back, or is restarted.
 *
 * @param recovery how long it may take until turns work again, in milliseconds
 */
export function outageSuite (t: Test, name: string, newServer: (t: Test) => Promise<TestedServer>, recovery = 1500): void {
  t.test('while it is down a turn fails in time, everything else goes on, and it recovers by itself', async (t) => {
    const server = await newServer(t)
    const { app, url, log } = await startBot(t, { storage: server.storageAt(server.port), loadTimeout: 300 })
    const before = performance.now()
    const replies = await Promise.all(Array.from({ length: 50 }, () => post(url, message())))
    t.ok(performance.now() - before < 2000, 'nobody waits longer than loadTimeout')
    for (const { status, body } of replies) t.match({ status, body }, { status: 500, body: { code: 'FST_BOTAS_STATE_LOAD_FAILED' } })
    const health = await fetch(`${url}/health`)
    t.match({ status: health.status, body: await health.json() }, { status: 503, body: { storage: false, openTurns: 0 } })
    // On a busy machine a server that is down may first be one that does not answer.
    const refusals = () => log.filter((line) => JSON.stringify(line).includes('ECONNREFUSED') && isOutageLine(line)).length
    t.equal(refusals(), 1, 'the cause is logged once')
    t.match(log.find(isOutageLine), { level: 50, err: { message: new RegExp(`^${name}: connect ECONNREFUSED`) } })
    t.match(app.botasState.stats, { outage: { reason: /ECONNREFUSED/ }, loadFailures: 50, lastError: { code: 'FST_BOTAS_STATE_LOAD_FAILED' } })

    const second = await startBot(t, { storage: app.botasState.storage })
    t.match(second.app.botasState.stats.outage, { reason: /ECONNREFUSED/ }, 'a server that joins is told of it, too')
    await t.rejects(app.botasState.storage.read(['key']), { message: /^\S+[^:]*: / }, 'who does not say how long he waits does not wait')

    await server.start()
    const back = performance.now()
    await settled(async () => (await post(url, message({ id: 'first' }))).status === 200)
    t.ok(performance.now() - back < recovery, 'it works again in a moment')
    t.match(app.botasState.stats, { outage: null })
    t.equal((await fetch(`${url}/health`)).status, 200)
    await server.stop()
    // A turn finds out, where no connection is kept.
    await settled(async () => {
      await post(url, message())
      return refusals() > 1
    })
    t.equal(refusals(), 2, 'another outage is logged once more')
    await server.start()
    await settled(async () => (await fetch(`${url}/health`)).status === 200)
    t.pass('the end of an outage is noticed without a turn')
  })

  t.test('no turn is lost without a word when it restarts', { jobs: 2 }, async (t) => {
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      for (const flush of ['onSend', 'onResponse'] as const) {
        t.test(`after a ${signal}, flush: ${flush}`, { buffered: true }, async (t) => {
          const server = await newServer(t)
          await server.start()
          const bot = await startBot(t, { storage: server.storageAt(server.port), flush })
          const { answered, refused, stored } = await underLoad(t, bot, async () => {
            await server.stop(signal)
            await wait(3000)
            await server.start()
          })
          const reported = new Set(bot.log.filter(({ code }) => code === 'FST_BOTAS_STATE_SAVE_FAILED').map(({ reqId }) => reqId))
          const lost = [...answered].filter(([id, reqId]) => !stored.has(id) && !(flush === 'onResponse' && reported.has(reqId)))
          t.strictSame(lost, [], 'every answered turn is stored, or, after its answer, reported')
          t.strictSame([...stored].filter((id) => !answered.has(id) && !refused.has(id)), [])
        })
      }
    }
  })

  t.test('one that hangs is like one that is down, and turns go on when it does', async (t) => {
    const server = await newServer(t)
    await server.start()
    const { app, url, log } = await startBot(t, { storage: server.storageAt(server.port), loadTimeout: 400 })
    t.equal((await post(url, message({ id: 'before' }))).status, 200)
    await settled(() => app.botasState.stats.pendingFlushes === 0)
    server.signal('SIGSTOP')
    const before = performance.now()
    t.match(await post(url, message()), { status: 500, body: { code: 'FST_BOTAS_STATE_LOAD_FAILED' } })
    t.ok(performance.now() - before < 1000)
    await wait(1000)
    t.match(await post(url, message()), { status: 500 })
    t.match(app.botasState.stats, { outage: { reason: `${name}: the server does not answer` } })
    // Long enough that a connection of ours is made anew, to a server that accepts it and says nothing.
    await wait(6000)
    t.equal((await fetch(`${url}/health`)).status, 503)
    server.signal('SIGCONT')
    const back = performance.now()
    await settled(async () => (await post(url, message({ id: 'after' }))).status === 200)
    t.ok(performance.now() - back < recovery, 'it works again in a moment')
    t.ok(log.filter(isOutageLine).length <= 2, 'an outage is logged once a reason')
  })

  t.test('one that hangs from the start keeps nobody waiting for longer than that', async (t) => {
    const server = await newServer(t)
    await server.start()
    server.signal('SIGSTOP')
    const { app, log } = await startBot(t, { storage: server.storageAt(server.port), loadTimeout: 8000 })
    const count = () => app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: 'c' }, ({ conversation }) =>
      conversation.update<number>('count', (count) => (count ?? 0) + 1))
    const first = count()
    await wait(1000)
    // What the first one gives up is no end of the second.
    const second = count()
    await wait(3000)
    t.equal(app.botasState.stats.loadFailures, 0)
    server.signal('SIGCONT')
    await Promise.all([first, second])
    t.strictSame(await app.botasState.storage.read(['test/bot/conversations/c']), { 'test/bot/conversations/c': { count: 2 } })
    t.equal(app.botasState.stats.outage, null)
    const reasons = log.filter(isOutageLine).map((line) => JSON.stringify(line.err))
    t.equal(new Set(reasons).size, reasons.length, 'it was one outage, each reason of which is logged once')
  })

  t.test('a save waits for one that hangs for a while, and is done once', async (t) => {
    const server = await newServer(t)
    await server.start()
    const { app } = await startBot(t, { storage: server.storageAt(server.port) })
    const count = () => app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: 'conversation-1' }, async ({ conversation }) => {
      server.signal('SIGSTOP')
      conversation.update<number>('count', (count) => (count ?? 0) + 1)
    })
    for (const [index, milliseconds] of [300, 300, 2500].entries()) {
      const saved = count()
      await settled(() => app.botasState.stats.pendingFlushes === 1)
      await wait(milliseconds)
      t.equal(app.botasState.stats.pendingFlushes, 1)
      server.signal('SIGCONT')
      await saved
      t.strictSame(await app.botasState.storage.read([CONVERSATION_KEY]), { [CONVERSATION_KEY]: { count: index + 1 } })
    }
  })

  t.test('a storage is closed within a second, whatever its server does', async (t) => {
    for (const state of ['up', 'down', 'hung'] as const) {
      const server = await newServer(t)
      await server.start()
      const { app, url } = await startBot(t, { storage: server.storageAt(server.port), loadTimeout: 500 })
      t.equal((await post(url, message({ id: 'first' }))).status, 200)
      await settled(() => app.botasState.stats.pendingFlushes === 0)
      if (state === 'down') await server.stop()
      if (state === 'hung') server.signal('SIGSTOP')
      if (state !== 'up') t.equal((await post(url, message({ id: 'second' }))).status, 500)
      const before = performance.now()
      await app.close()
      t.ok(performance.now() - before < 1000, `${state}: ${Math.round(performance.now() - before)} ms`)
    }
  })

  t.test('a process ends after its server was closed, whatever the storage does', async (t) => {
    for (const state of ['up', 'down from the start', 'gone', 'hung'] as const) {
      const server = await newServer(t)
      if (state !== 'down from the start') await server.start()
      // One turn at the beginning: it is over, or waits for its load, when the process is to end.
      const { child, lines, exited } = startProcess(t, 'bot-in-outage.js', server.urlAt(server.port), '0.1')
      await lines.next()
      if (state === 'gone') await server.stop()
      if (state === 'hung') server.signal('SIGSTOP')
      const before = performance.now()
      child.kill('SIGTERM')
      t.strictSame(await exited, { code: 0, signal: null, errors: '' }, state)
      // A turn that is open is waited for, no longer than loadTimeout, by a process that may have little of the processor.
      t.ok(performance.now() - before < 8000, state)
    }
  })

  t.test('a connection that dies while nobody uses it ends no process, and no turn', async (t) => {
    const server = await newServer(t)
    await server.start()
    const { child, lines, exited } = startProcess(t, 'bot-in-outage.js', server.urlAt(server.port), '5')
    const succeeded = async () => JSON.parse((await lines.next()).value).succeeded as number
    await settled(async () => await succeeded() > 0)
    await server.stop()
    await wait(500)
    await server.start()
    const before = await succeeded()
    await settled(async () => await succeeded() > before + 2)
    child.kill('SIGTERM')
    t.match(await exited, { code: 0, signal: null, errors: '' })
  })
}
