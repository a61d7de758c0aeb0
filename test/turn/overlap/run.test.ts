import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import { message } from '../../helpers/activities.js'
import { buildFastify, post, settled } from '../../helpers/build-fastify.js'
import { onEachStorage } from '../../helpers/overlap-storages.js'

const identity = (conversationId: string) => ({ channelId: 'test', botId: 'bot', conversationId })

onEachStorage(t, 'run takes its place as well, whatever the strategy', async (t, open) => {
  for (const concurrency of ['queue', 'reject', 'replace', () => 'replace' as const] as const) {
    const { app, url } = await buildFastify(t, { storage: open(), concurrency }, (app) => {
      app.post('/', async ({ state: { conversation, signal } }) => {
        const n = conversation.get<number>('n') ?? 0
        await wait(50)
        conversation.set('n', n + 1)
        return { aborted: signal.aborted }
      })
    })
    await app.botasState.run(identity('conversation-1'), ({ conversation }) => conversation.delete('n'))
    const turn = post(url, message())
    await settled(() => app.botasState.stats.openTurns === 1)
    const runs = [1, 2, 3].map(() => app.botasState.run(identity('conversation-1'), async ({ conversation }) => {
      const n = conversation.get<number>('n') ?? 0
      await wait(5)
      conversation.set('n', n + 1)
      return n + 1
    }))
    t.strictSame((await turn).body, { aborted: false })
    t.strictSame(await Promise.all(runs), [2, 3, 4], String(concurrency))
    await app.close()
  }
})

onEachStorage(t, 'run inside a turn of its own conversation joins it, in hooks, handlers and run', async (t, open) => {
  const { app, url } = await buildFastify(t, { storage: open(), concurrency: { strategy: 'queue', maxWait: 500 } }, (app) => {
    const note = (where: string) => app.botasState.run(identity('conversation-1'), ({ conversation }) => conversation.set(where, true))
    app.addHook('preHandler', async () => note('hook'))
    app.post('/', async ({ state: { conversation } }) => {
      conversation.set('turn', true)
      await note('handler')
      await app.botasState.run(identity('another'), async () => { await note('nested') })
      await app.botasState.run(identity('conversation-1'), async () => { await note('twice') })
    })
  })
  t.equal((await post(url, message())).status, 200)
  const stored = await app.botasState.run(identity('conversation-1'), ({ conversation }) => conversation.toJSON())
  t.strictSame(Object.keys(stored).sort(), ['handler', 'hook', 'nested', 'turn', 'twice'])
})

t.test('a turn keeps its place until what it began with run is over', async (t) => {
  const events: string[] = []
  const { url } = await buildFastify(t, { concurrency: 'queue' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text } }) => {
      events.push(text)
      if (text === 'first') {
        app.botasState.run(identity('conversation-1'), async () => {
          await wait(100)
          events.push('run')
        })
      }
    })
  })
  await post(url, message({ text: 'first' }))
  await post(url, message({ text: 'second' }))
  t.strictSame(events, ['first', 'run', 'second'])
})

t.test('what goes on after its turn takes a place of its own', async (t) => {
  const { app, url } = await buildFastify(t, { concurrency: 'queue' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation } }) => {
      if (text === 'first') {
        setTimeout(() => app.botasState.run(identity('conversation-1'), ({ conversation }) => conversation.set('later', conversation.get('n'))), 100)
      } else {
        await wait(150)
        conversation.set('n', 1)
      }
    })
  })
  await post(url, message({ text: 'first' }))
  await post(url, message({ text: 'second' }))
  await settled(() => app.botasState.stats.openTurns === 0)
  t.strictSame(await app.botasState.run(identity('conversation-1'), ({ conversation }) => conversation.toJSON()), { n: 1, later: 1 })
})

onEachStorage(t, 'two turns that run each other\'s conversation are ended by maxWait, by code', async (t, open) => {
  const { app } = await buildFastify(t, { storage: open(), concurrency: { strategy: 'queue', maxWait: 300 } }, () => {})
  const across = (own: string, other: string) => app.botasState.run(identity(own), async () => {
    await wait(50)
    await app.botasState.run(identity(other), () => {})
  })
  const outcomes = await Promise.allSettled([across('a', 'b'), across('b', 'a')])
  t.ok(outcomes.some(({ status }) => status === 'rejected'))
  for (const outcome of outcomes) if (outcome.status === 'rejected') t.match(outcome.reason, { code: 'FST_BOTAS_STATE_BUSY', statusCode: 503 })
  t.equal(app.botasState.stats.openTurns, 0)
})
