import { setTimeout as wait } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import t from 'tap'
import type { Storage } from '../../../lib/index.js'
import { type Hold, documentStoreOf } from '../../../lib/storage/document-store.js'
import { RedisStorage } from '../../../lib/storage/redis/redis-storage.js'
import { CONVERSATION_KEY, message } from '../../helpers/activities.js'
import { type TestServer, buildFastify, post, settled } from '../../helpers/build-fastify.js'
import { LeasingStorage, newServer } from '../../helpers/leasing-storage.js'
import { onEachStorage, onceStorages } from '../../helpers/overlap-storages.js'
import { published } from '../../helpers/published.js'
import { RecordingStorage } from '../../helpers/recording-storage.js'
import { startRedis } from '../../helpers/redis-server.js'

const IDENTITY = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1' }
const PLACE = 'botas:~place:{botas:test/bot/conversations/conversation-1}'

for (const [name, make] of Object.entries(onceStorages)) {
  t.test(`another delivery of a replaced message does not replace the newer one: ${name}`, async (t) => {
    const open = await make(t)
    const said: string[] = []
    const { app, url } = await buildFastify(t, {
      storage: open(), once: true, flush: 'onSend', concurrency: ({ body }) => (body as { text: string }).text === 'queued' ? 'queue' : 'replace'
    }, (app) => {
      app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation } }) => {
        said.push(text)
        if (text === 'queued') await wait(200)
        conversation.set(text, true)
        return { text }
      })
    })
    const queued = post(url, message({ id: 'q', text: 'queued' }))
    await settled(() => said.length === 1)
    const first = post(url, message({ id: 'a', text: 'older' }))
    await settled(() => app.botasState.stats.waitingTurns === 1)
    const again = post(url, message({ id: 'a', text: 'older' }))
    await settled(() => app.botasState.stats.waitingTurns === 2)
    const newer = post(url, message({ id: 'b', text: 'newer' }))
    t.strictSame((await Promise.all([queued, first, again, newer])).map(({ status }) => status), [200, 409, 409, 200])
    t.strictSame(said, ['queued', 'newer'])
    t.equal((await post(url, message({ id: 'a', text: 'older' }))).status, 409)
  })

  t.test(`run and a request may handle the same activity, of which each gets what it can use: ${name}`, async (t) => {
    const open = await make(t)
    const { app, url } = await buildFastify(t, { storage: open(), once: true }, (app) => { app.post('/', async () => ({ ok: true })) })
    t.equal(await app.botasState.run({ ...IDENTITY, activityId: 'by run' }, () => 7), 7)
    const reply = await post(url, message({ id: 'by run' }))
    t.strictSame([reply.status, reply.text], [200, ''])
    await post(url, message({ id: 'by request' }))
    t.equal(await app.botasState.run({ ...IDENTITY, activityId: 'by request' }, () => 7), undefined)
  })
}

onEachStorage(t, 'a run inside a turn that is replaced stores nothing either', async (t, open) => {
  const { app, url } = await buildFastify(t, { storage: open(), concurrency: 'replace' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state }) => {
      if (text === 'second') return
      await app.botasState.run(IDENTITY, async ({ conversation }) => {
        conversation.set('joined', true)
        await new Promise((resolve) => state.signal.addEventListener('abort', resolve))
      })
    })
  })
  const first = post(url, message({ text: 'first' }))
  await settled(() => app.botasState.stats.openTurns === 2)
  t.equal((await post(url, message({ text: 'second' }))).status, 200)
  t.match(await first, { status: 409, body: { code: 'FST_BOTAS_STATE_REPLACED' } })
  t.strictSame(await app.botasState.run(IDENTITY, ({ conversation }) => conversation.toJSON()), {})
})

t.test('run of its own activity inside its turn does not wait for itself', async (t) => {
  for (const concurrency of ['parallel', 'queue'] as const) {
    const { url } = await buildFastify(t, { once: { maxWait: 300 }, concurrency }, (app) => {
      app.post<{ Body: { id: string } }>('/', async ({ body: { id } }) => app.botasState.run({ ...IDENTITY, activityId: id }, () => ({ ok: true })))
    })
    t.strictSame((await post(url, message({ id: 'a' }))).body, { ok: true }, concurrency)
  }
})

t.test('of a replaced turn that fails no error of the server is delivered again', async (t) => {
  let runs = 0
  const { app, url } = await buildFastify(t, { once: true, concurrency: 'replace' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { signal } }) => {
      runs++
      if (text === 'long') await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))))
    })
  })
  const first = post(url, message({ id: 'a', text: 'long' }))
  await settled(() => runs === 1)
  await post(url, message({ id: 'b', text: 'short' }))
  t.equal((await first).status, 500)
  await settled(() => app.botasState.stats.openTurns === 0)
  t.equal((await post(url, message({ id: 'a', text: 'long' }))).status, 409)
  t.equal(runs, 2)
})

t.test('a turn that the storage refuses, because it was replaced, has handled its activity', async (t) => {
  const { url } = await startRedis(t)
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  for (const flush of ['onSend', 'onResponse'] as const) {
    let runs = 0
    const { app, url: bot, log } = await buildFastify(t, { storage: url, once: true, flush, concurrency: { strategy: 'replace', lease: 60_000 } }, (app) => {
      app.post('/', async ({ state: { conversation } }) => {
        conversation.set('n', 1)
        await client.set(PLACE, `somebody:${Date.now() + 60_000}:0`)
        return { runs: ++runs }
      })
    })
    const first = await post(bot, message({ id: flush }))
    t.equal(first.status, flush === 'onSend' ? 409 : 200)
    await settled(() => app.botasState.stats.openTurns === 0)
    t.equal(app.botasState.stats.replacedTurns, 1)
    // What was answered is what the next delivery gets.
    t.strictSame(await post(bot, message({ id: flush })), first)
    t.equal(runs, 1)
    if (flush === 'onResponse') t.strictSame(log, [], 'it is no error')
    await client.del(PLACE)
  }
})

t.test('a delivery that was replaced, and handled by another one meanwhile, is to come again for the reply of that', async (t) => {
  const { url } = await startRedis(t)
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  const { url: bot } = await buildFastify(t, { storage: url, once: true, concurrency: { strategy: 'replace', lease: 60_000 } }, (app) => {
    app.post('/', async ({ state: { conversation } }) => {
      conversation.set('n', 1)
      await client.set(PLACE, `somebody:${Date.now() + 60_000}:0`)
      // A claim that was lost meanwhile.
      await client.set(`botas:~mark:{botas:${CONVERSATION_KEY}}:a`, '={"status":200,"headers":{"content-type":"application/json"},"text":"{}"}')
    })
  })
  t.match(await post(bot, message({ id: 'a' })), { status: 503, body: { code: 'FST_BOTAS_STATE_BUSY' } })
  t.match(await post(bot, message({ id: 'a' })), { status: 200, text: '{}' })
})

t.test('a turn that waits to replace another one survives that the server forgets who waits', async (t) => {
  const { url } = await startRedis(t)
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  const somebody = (milliseconds: number) => client.set(PLACE, `somebody:${Date.now() + milliseconds}:0`)
  await somebody(60_000)
  const { app, url: bot } = await buildFastify(t, { storage: url, concurrency: 'replace' }, (app) => {
    app.post('/', async ({ state: { conversation } }) => conversation.set('n', 1))
  })
  const turn = post(bot, message())
  await settled(() => app.botasState.stats.waitingTurns === 1)
  // Whose turn it is goes on meanwhile.
  await somebody(500)
  t.equal((await turn).status, 200)
})

t.test('the signal of a turn that lost its place is aborted', async (t) => {
  const { url } = await startRedis(t)
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  const { app, url: bot } = await buildFastify(t, { storage: url, concurrency: { strategy: 'queue', lease: 300 } }, (app) => {
    app.post('/', async ({ state: { conversation, signal } }) => {
      await client.set(PLACE, `somebody:${Date.now() + 60_000}:0`)
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      conversation.set('n', 1)
      return { reason: signal.reason.message }
    })
  })
  t.strictSame((await post(bot, message())).body, { reason: 'the turn has lost its place in the conversation' })
  t.equal(app.botasState.stats.leasesLost, 1)
})

t.test('closing does not refuse a turn that has waited and has its place by now', async (t) => {
  const { app, url } = await buildFastify(t, { concurrency: 'queue' }, (app) => {
    app.post('/', async () => wait(200))
  }, { forceCloseConnections: false, keepAliveTimeout: 100 })
  const turns = [post(url, message()), post(url, message())]
  await turns[0]
  await settled(() => app.botasState.stats.waitingTurns === 0)
  await app.close()
  t.equal((await turns[1])?.status, 200)
})

t.test('a body that is no activity is handled each time where its id is no text', async (t) => {
  const { url } = await buildFastify(t, { once: true, identify: () => IDENTITY }, (app) => { app.post('/', async () => ({ ok: true })) })
  t.strictSame((await post(url, { id: 7 })).body, { ok: true })
})

t.test('a command that is overtaken by that of a later turn of its process takes no place from it', async (t) => {
  const { url } = await startRedis(t)
  const storages = [new RedisStorage(url), new LeasingStorage()]
  const call = { signal: new AbortController().signal, timeout: 1000, retrying () {} }
  for (const storage of storages) {
    t.teardown(() => (storage as Storage).close?.())
    const { holds } = documentStoreOf(storage)
    const hold = (number: number): Hold => ({
      key: 'key', origin: 'process-', holder: `process-${number}`, arrived: 0, lease: 1000, place: { strategy: 'replace', isReplaceable: true }, activity: undefined
    })
    t.match(await holds?.enter(hold(10), [], call), { outcome: 'entered' })
    t.match(await holds?.enter(hold(9), [], call), { outcome: 'replaced' })
    t.equal(await holds?.renew(hold(10), call), true)
    t.match(await holds?.enter(hold(11), [], call), { outcome: 'entered' })
  }
})

onEachStorage(t, 'a run that begins while its turn is being saved takes a place of its own', async (t, open) => {
  const work: string[] = []
  const { app, url } = await buildFastify(t, { storage: open(), concurrency: 'queue' }, (app) => {
    app.addHook('onResponse', async () => {
      await app.botasState.run(IDENTITY, async ({ conversation }) => {
        work.push('run')
        await wait(100)
        conversation.set('run', true)
        work.push('run')
      })
    })
    app.post('/', async ({ state: { conversation } }) => conversation.set('turn', true))
  })
  await post(url, message())
  await settled(() => work.length === 1)
  await app.botasState.run(IDENTITY, () => { work.push('other') })
  t.strictSame(work, ['run', 'run', 'other'])
  t.equal(app.botasState.stats.leasesLost, 0)
})

t.test('activities whose ids and conversations only look alike are told apart', async (t) => {
  const { url } = await startRedis(t)
  for (const storage of [new RedisStorage(url, { keyPrefix: '{bot}:' }), new LeasingStorage()]) {
    const { app } = await buildFastify(t, { storage, once: true }, () => {})
    const run = (conversationId: string, activityId: string) => app.botasState.run({ ...IDENTITY, conversationId, activityId }, () => `${conversationId} ${activityId}`)
    await run('a:b', 'c:d')
    t.equal(await run('a:b:c', 'd'), 'a:b:c d')
  }
})

onEachStorage(t, 'a replaced turn may store something all the same, by run', async (t, open) => {
  let isAtWork = false
  const { app, url, log } = await buildFastify(t, { storage: open(), concurrency: 'replace' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { signal } }) => {
      if (text === 'second') return
      isAtWork = true
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      await app.botasState.run(IDENTITY, ({ conversation }) => conversation.set('asked', text))
    })
  })
  const first = post(url, message({ text: 'first' }))
  await settled(() => isAtWork)
  t.equal((await post(url, message({ text: 'second' }))).status, 200)
  t.equal((await first).status, 200)
  t.strictSame(await app.botasState.run(IDENTITY, ({ conversation }) => conversation.toJSON()), { asked: 'first' })
  t.match(app.botasState.stats, { leasesLost: 0 })
  t.strictSame(log, [])
})

t.test('a turn that begins to wait after the server began to close is refused', async (t) => {
  const { app, url } = await buildFastify(t, { concurrency: 'queue' }, (app) => {
    app.post('/', async () => wait(300))
  }, { forceCloseConnections: false, keepAliveTimeout: 100 })
  const first = post(url, message())
  await settled(() => app.botasState.stats.openTurns === 1)
  const closed = app.close()
  await wait(50)
  await t.rejects(app.botasState.run(IDENTITY, () => {}), { code: 'FST_BOTAS_STATE_BUSY', message: /closing/ })
  t.equal((await first).status, 200)
  await closed
})

t.test('a load that fails in its place is a failed load, and is published as such', async (t) => {
  const events = published(t, 'botas-state:place')
  const storage = new RecordingStorage()
  storage.failures.read = Object.assign(new Error('of the storage'), { code: 'EIO' })
  const { app, url } = await buildFastify(t, { storage, concurrency: 'queue' }, (app) => { app.post('/', async () => {}) })
  t.match(await post(url, message()), { status: 500, body: { code: 'FST_BOTAS_STATE_LOAD_FAILED' } })
  t.match(events, [{ outcome: 'failure', code: 'FST_BOTAS_STATE_LOAD_FAILED' }])
  t.match(app.botasState.stats, { loads: 1, loadFailures: 1 })
  delete storage.failures.read
  t.equal((await post(url, message())).status, 200)
})

t.test('of two deliveries in two processes that both ran, because a claim was lost, one is stored', async (t) => {
  const { url } = await startRedis(t)
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  const mark = 'botas:~mark:{botas:test/bot/conversations/conversation-1}:a'
  const { url: bot } = await buildFastify(t, { storage: url, once: true }, (app) => {
    app.post('/', async ({ state: { conversation } }) => {
      conversation.set('n', 1)
      await client.set(mark, '={"status":200,"headers":{},"text":"of the other"}')
    })
  })
  t.match(await post(bot, message({ id: 'a' })), { status: 503, body: { code: 'FST_BOTAS_STATE_BUSY', message: /saved first/ } })
  t.equal(await client.get('botas:test/bot/conversations/conversation-1'), null)
})

t.test('a kept reply that somebody has spoilt fails the next delivery, and is not quoted', async (t) => {
  const { url } = await startRedis(t)
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  const { url: bot, log } = await buildFastify(t, { storage: url, once: true }, (app) => { app.post('/', async () => {}) })
  await client.set('botas:~mark:{botas:test/bot/conversations/conversation-1}:a', '=a secret')
  const { status, text } = await post(bot, message({ id: 'a' }))
  t.equal(status, 500)
  t.match(JSON.stringify(log), /kept reply.*is not JSON/)
  t.notMatch(text + JSON.stringify(log), /secret/)
})

t.test('a delivery runs where the other one, in another process, has failed', async (t) => {
  const { url } = await startRedis(t)
  let runs = 0
  const bots = await Promise.all([1, 2].map(() => buildFastify(t, { storage: url, once: true }, (app) => {
    app.post('/', async () => {
      runs++
      await wait(100)
      if (runs === 1) throw new Error('the first one')
    })
  })))
  const first = post((bots[0] as typeof bots[0] & {}).url, message({ id: 'a' }))
  await settled(() => runs === 1)
  t.equal((await post((bots[1] as typeof bots[0] & {}).url, message({ id: 'a' }))).status, 200)
  t.equal((await first).status, 500)
  t.equal(runs, 2)
})

t.test('another replica waits for a delivery that takes longer than its lease, and then gets its reply, also where that was replaced', async (t) => {
  const redis = await startRedis(t)
  const server = newServer()
  for (const open of [() => new RedisStorage(redis.url), () => new LeasingStorage(server)]) {
    for (const concurrency of ['parallel', 'queue', 'replace'] as const) {
      let runs = 0
      const routes = (app: FastifyInstance) => {
        app.post<{ Body: { text: string } }>('/', async ({ body: { text } }) => {
          runs++
          if (text === 'long') await wait(600)
          return { text }
        })
      }
      const options = { once: true, concurrency: { strategy: concurrency, lease: 200 } } as const
      const [first, second] = await Promise.all([1, 2].map(() => buildFastify(t, { storage: open(), ...options }, routes))) as [TestServer, TestServer]
      const id = `a-${concurrency}`
      const long = post(first.url, message({ id, text: 'long' }))
      await settled(() => runs === 1)
      if (concurrency === 'replace') await post(first.url, message({ id: `${id}-newer`, text: 'newer' }))
      await wait(300)
      const again = await post(second.url, message({ id, text: 'long' }))
      t.equal(runs, concurrency === 'replace' ? 2 : 1)
      t.strictSame(again.body, (await long).body, concurrency)
      t.match([first.app.botasState.stats.leasesLost, second.app.botasState.stats.replayedTurns], [0, 1])
    }
  }
})

onEachStorage(t, 'a turn that waits is replaced by a later one, of whichever server', async (t, open, name) => {
  const bots = await Promise.all([1, 2, 3].map(() => buildFastify(t, {
    storage: open(), flush: 'onSend', concurrency: ({ body }) => (body as { text: string }).text === 'queued' ? 'queue' : 'replace'
  }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation } }) => {
      if (text === 'queued') await wait(500)
      conversation.set(text, true)
    })
  }))) as [TestServer, TestServer, TestServer]
  const replies = []
  for (const [index, text] of ['queued', 'older', 'newer'].entries()) {
    replies.push(post((bots[index] as TestServer).url, message({ text })))
    await wait(100)
  }
  const [queued, older, newer] = (await Promise.all(replies)).map(({ status }) => status)
  t.strictSame([queued, newer], [200, 200])
  // Leases keep no order: the newer one may be over when the older one asks again.
  if (!name.includes('with leases')) t.equal(older, 409)
  t.strictSame(await bots[0].app.botasState.run(IDENTITY, ({ conversation }) => conversation.toJSON()),
    { queued: true, ...(older === 200 ? { older: true } : {}), newer: true })
})

onEachStorage(t, 'no more than maxWaiting turns wait in a process, whoever holds the place', async (t, open) => {
  for (const maxWaiting of [0, 1, 2]) {
    const [holder, ...others] = await Promise.all([1, 2, 3].map(() => buildFastify(t, { storage: open(), concurrency: { strategy: 'queue', maxWaiting } }, (app) => {
      app.post<{ Body: { text: string } }>('/', async ({ body: { text } }) => text === 'hold' ? wait(400) : {})
    }))) as [TestServer, TestServer, TestServer]
    const holding = post(holder.url, message({ text: 'hold' }))
    await settled(() => holder.app.botasState.stats.openTurns === 1)
    await wait(20)
    const isShared = new Set([holder, ...others].map(({ app }) => app.botasState.storage)).size > 1
    const waiting: Array<ReturnType<typeof post>> = []
    for (const { app, url } of isShared ? others : [holder]) {
      for (let n = 0; n < maxWaiting; n++) {
        waiting.push(post(url, message({ text: 'wait' })))
        await settled(() => app.botasState.stats.waitingTurns === n + 1)
        await wait(20)
      }
      t.equal((await post(url, message({ text: 'too many' }))).status, 503, `maxWaiting ${maxWaiting}`)
    }
    for (const reply of [holding, ...waiting]) t.equal((await reply).status, 200)
  }
})

t.test('a function that chooses by request and rejects is an error of that request, and of no more', async (t) => {
  const { url } = await buildFastify(t, { concurrency: (async () => { throw new Error('no') }) as never }, (app) => { app.post('/', async () => {}) })
  t.match(await post(url, message()), { status: 500, body: { code: 'FST_BOTAS_STATE_INVALID_OPTION' } })
  await wait(20)
})

t.test('a run that is being saved is saved, though the turn around it is replaced meanwhile', async (t) => {
  const storage = new RecordingStorage()
  const { url } = await buildFastify(t, { storage, concurrency: 'replace' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation } }) => {
      if (text === 'second') return
      await app.botasState.run(IDENTITY, ({ conversation }) => conversation.set('run', true))
      conversation.set('turn', true)
    })
  })
  storage.latency.update = 200
  const first = post(url, message({ text: 'first' }))
  await settled(() => storage.count('update') === 1)
  t.equal((await post(url, message({ text: 'second' }))).status, 200)
  t.equal((await first).status, 409)
  t.strictSame(await storage.stored('test/bot/conversations/conversation-1'), { run: true })
})

onEachStorage(t, 'with reject a turn that goes on after its reply refuses the next one; one that is only being saved does not', async (t, open) => {
  const { app, url } = await buildFastify(t, { storage: open(), concurrency: 'reject' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state }) => {
      state.conversation.update<number>(text, (n = 0) => n + 1)
      if (text === 'goes on') state.waitUntil(wait(200))
      return { text }
    })
  })
  t.equal((await post(url, message({ text: 'goes on' }))).status, 200)
  t.match(await post(url, message({ text: 'saved' })), { status: 409, body: { code: 'FST_BOTAS_STATE_BUSY' } })
  await settled(() => app.botasState.stats.openTurns === 0)
  for (let n = 0; n < 20; n++) t.equal((await post(url, message({ text: 'saved' }))).status, 200)
  t.strictSame(await app.botasState.run(IDENTITY, ({ conversation }) => conversation.toJSON()), { 'goes on': 1, saved: 20 })
})

t.test('a delivery that waited for one that died replaces what came meanwhile, and is not replaced by it', async (t) => {
  const { url } = await startRedis(t)
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  await client.set(`botas:~mark:{botas:${CONVERSATION_KEY}}:a`, 'somebody-1', 'PX', 500)
  const { app, url: bot } = await buildFastify(t, { storage: url, once: true, concurrency: 'replace' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state }) => {
      if (text === 'meanwhile') await new Promise((resolve) => state.signal.addEventListener('abort', resolve))
      state.conversation.set(text, true)
    })
  })
  const again = post(bot, message({ id: 'a', text: 'again' }))
  await settled(() => app.botasState.stats.waitingTurns === 1)
  const meanwhile = post(bot, message({ id: 'b', text: 'meanwhile' }))
  t.equal((await again).status, 200)
  t.equal((await meanwhile).status, 409)
  t.strictSame(await app.botasState.run(IDENTITY, ({ conversation }) => conversation.toJSON()), { again: true })
})

t.test('a run inside a turn that lost its place waits for whoever has it, not for its own turn', async (t) => {
  const { url } = await startRedis(t)
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  const { app, url: bot } = await buildFastify(t, { storage: url, concurrency: { strategy: 'queue', lease: 300 } }, (app) => {
    app.post('/', async ({ state: { signal } }) => {
      await client.set(PLACE, `somebody:${Date.now() + 400}:0`)
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      return await app.botasState.run(IDENTITY, () => ({ run: true }))
    })
  })
  t.match(await post(bot, message()), { status: 200, body: { run: true } })
  t.equal(app.botasState.stats.leasesLost, 1)
})

t.test('a place whose time has passed is not lost while others only leave', async (t) => {
  const { url } = await startRedis(t)
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  const { app, url: bot } = await buildFastify(t, { storage: url, flush: 'onSend', concurrency: { strategy: 'replace', lease: 60_000 } }, (app) => {
    app.post('/', async ({ state: { conversation } }) => {
      conversation.set('n', 1)
      const [own] = (await client.get(PLACE) as string).split(':') as [string]
      const record = `${own}:${Date.now() - 1}:1;somebody:${Date.now() + 60_000}:2`
      await client.set(PLACE, record)
      await documentStoreOf(new RedisStorage(client)).holds?.leave({
        key: CONVERSATION_KEY, origin: 'somebody', holder: 'somebody', arrived: 0, lease: 1000, place: { strategy: 'replace', isReplaceable: true }, activity: undefined
      }, { signal: new AbortController().signal, retrying () {} })
    })
  })
  t.equal((await post(bot, message())).status, 200)
  t.equal(app.botasState.stats.replacedTurns, 0)
})

t.test('the error of a replaced turn does not wait for its handler', async (t) => {
  let hasBegun = false
  const { app, url } = await buildFastify(t, { once: true, concurrency: 'replace' }, (app) => {
    app.post<{ Body: { text: string } }>('/', (request, reply) => {
      if (request.body.text === 'second') return reply.send({})
      hasBegun = true
      request.state.signal.addEventListener('abort', () => { reply.send(request.state.signal.reason) })
      // It goes on for ever.
      return new Promise(() => {})
    })
  })
  const first = post(url, message({ id: 'a', text: 'first' }))
  await settled(() => hasBegun)
  const begun = performance.now()
  t.equal((await post(url, message({ id: 'b', text: 'second' }))).status, 200)
  t.equal((await first).status, 409)
  t.ok(performance.now() - begun < 2000)
  await settled(() => app.botasState.stats.openTurns === 0)
})

t.test('a replaced turn that cannot be remembered is an error of the server: it is to be delivered again', async (t) => {
  const storage = new LeasingStorage()
  const commit = storage.commit.bind(storage)
  storage.commit = async (what) => {
    if (what.changes.length === 0) throw new Error('of the storage')
    return commit(what)
  }
  let runs = 0
  const { url } = await buildFastify(t, { storage, once: true, concurrency: 'replace' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state }) => {
      if (text === 'first' && runs++ === 0) await new Promise((resolve) => state.signal.addEventListener('abort', resolve))
      state.conversation.set(text, true)
    })
  })
  const first = post(url, message({ id: 'a', text: 'first' }))
  await settled(() => runs === 1)
  t.equal((await post(url, message({ id: 'b', text: 'second' }))).status, 200)
  t.match(await first, { status: 500, body: { statusCode: 500, code: 'FST_BOTAS_STATE_SAVE_FAILED' } })
  t.equal((await post(url, message({ id: 'a', text: 'first' }))).status, 200)
})
