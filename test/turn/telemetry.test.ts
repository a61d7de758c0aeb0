import { channel } from 'node:diagnostics_channel'
import t, { type Test } from 'tap'
import { MemoryStorage, type StateDocument, type StateEvent, type StorageCall } from '../../lib/index.js'
import type { ChangeDocument } from '../../lib/document/document.js'
import { CONVERSATION_KEY, USER_KEY, message } from '../helpers/activities.js'
import { buildFastify, post, settled } from '../helpers/build-fastify.js'
import { RecordingStorage } from '../helpers/recording-storage.js'

const conversation = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1' }

/** What is published on a channel while the test runs. */
function subscribed (t: Test, name: string): StateEvent[] {
  const events: StateEvent[] = []
  const note = (event: unknown) => { events.push(event as StateEvent) }
  channel(name).subscribe(note)
  t.teardown(() => channel(name).unsubscribe(note))
  return events
}

t.test('a server that has done nothing yet counts nothing', async (t) => {
  const { app } = await buildFastify(t, {}, () => {})
  t.strictSame(JSON.parse(JSON.stringify(app.botasState.stats)), {
    openTurns: 0,
    waitingTurns: 0,
    leasesLost: 0,
    replacedTurns: 0,
    replayedTurns: 0,
    pendingFlushes: 0,
    loads: 0,
    loadFailures: 0,
    loadRetries: 0,
    flushes: 0,
    flushFailures: 0,
    flushRetries: 0,
    lastError: null,
    outage: null
  })
})

t.test('loads and flushes are counted, and a turn that changes nothing is no flush', async (t) => {
  const { app, url } = await buildFastify(t, { flush: 'onSend' }, (app) => {
    app.get('/health', async () => ({}))
    app.post('/read', async ({ state }) => ({ n: state.conversation.get('n') }))
    app.post('/write', async ({ state }) => ({ n: state.conversation.set('n', 1) }))
    app.post('/fail', async ({ state }) => {
      state.conversation.set('n', 2)
      throw new Error('no')
    })
  })
  await fetch(`${url}/health`)
  await post(`${url}/read`, message())
  await post(`${url}/write`, message())
  await post(`${url}/fail`, message())
  await app.botasState.run(conversation, (state) => { state.conversation.set('n', 3) })
  await settled(() => app.botasState.stats.openTurns === 0)
  t.match(app.botasState.stats, { openTurns: 0, loads: 4, loadFailures: 0, flushes: 2, flushFailures: 0, lastError: null })
})

t.test('turns that are open and flushes that are pending are counted', async (t) => {
  const storage = new RecordingStorage()
  storage.latency.update = 100
  const { app } = await buildFastify(t, { storage }, () => {})
  const turns = [1, 2].map((n) => app.botasState.run(conversation, async (state) => {
    state.conversation.set('n', n)
    t.equal(app.botasState.stats.openTurns, 2)
  }))
  await settled(() => app.botasState.stats.pendingFlushes === 2)
  await Promise.all(turns)
  t.match(app.botasState.stats, { openTurns: 0, pendingFlushes: 0, flushes: 2 })
})

t.test('the last failure of a load and of a flush can be asked for', async (t) => {
  const storage = new RecordingStorage()
  const { app } = await buildFastify(t, { storage }, () => {})
  const save = () => app.botasState.run(conversation, (state) => { state.conversation.set('secret', 'hunter2') })
  storage.failures.update = new Error('disk full')
  await t.rejects(save())
  const { stats } = app.botasState
  t.match(stats, { flushes: 1, flushFailures: 1, pendingFlushes: 0, lastError: { code: 'FST_BOTAS_STATE_SAVE_FAILED', message: /not known to be saved: .*: disk full$/ } })
  t.ok(Math.abs(Date.now() - (stats.lastError?.at as number)) < 5000)
  storage.failures.read = new Error('disk gone')
  await t.rejects(save())
  t.match(app.botasState.stats, { loadFailures: 1, lastError: { code: 'FST_BOTAS_STATE_LOAD_FAILED' } })
  storage.failures.read = () => undefined
  await t.rejects(app.botasState.run(conversation, (state) => {
    const list: unknown[] = []
    state.conversation.set('list', list)
    list.push(1n)
  }))
  t.match(app.botasState.stats, { flushes: 2, flushFailures: 2, lastError: { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE' } })
  t.notMatch(JSON.stringify(app.botasState.stats), /hunter/)
})

t.test('what a storage has to try again is counted', async (t) => {
  class Hesitant extends MemoryStorage {
    override async read (keys: string[], call?: StorageCall) {
      call?.retrying()
      return super.read(keys)
    }

    override async update (key: string, change: ChangeDocument, _loaded?: StateDocument, call?: StorageCall) {
      call?.retrying()
      call?.retrying()
      await super.update(key, change)
    }
  }
  const flushes = subscribed(t, 'botas-state:flush')
  const { app } = await buildFastify(t, { storage: new Hesitant() }, () => {})
  await app.botasState.run(conversation, (state) => { state.conversation.set('n', 1) })
  t.match(app.botasState.stats, { loadRetries: 1, flushRetries: 2 })
  t.match(flushes, [{ retries: 2, outcome: 'success' }])
})

t.test('who listens is told of every load and flush, with keys and without values', async (t) => {
  const loads = subscribed(t, 'botas-state:load')
  const flushes = subscribed(t, 'botas-state:flush')
  const storage = new RecordingStorage()
  storage.latency.read = 20
  const { app, url } = await buildFastify(t, { storage, flush: 'onSend' }, (app) => {
    app.post('/', async ({ state }) => ({ n: state.conversation.set('secret', 'hunter2') }))
  })
  await post(url, message())
  t.match(loads, [{ keys: [CONVERSATION_KEY, USER_KEY], outcome: 'success', retries: 0, duration: Number }])
  t.ok((loads[0] as StateEvent).duration >= 19)
  t.match(flushes, [{ keys: [CONVERSATION_KEY], outcome: 'success', retries: 0, duration: Number }])
  storage.failures.update = new Error('disk full')
  await post(url, message({ id: 'again' }))
  await app.botasState.run(conversation, (state) => { state.conversation.set('secret', 'hunter3') }).catch(() => {})
  t.match(flushes.slice(1), [{ keys: [CONVERSATION_KEY], outcome: 'failure', code: 'FST_BOTAS_STATE_SAVE_FAILED' }])
  storage.failures.read = new Error('disk gone')
  await post(url, message())
  t.match(loads.at(-1), { keys: [CONVERSATION_KEY, USER_KEY], outcome: 'failure', code: 'FST_BOTAS_STATE_LOAD_FAILED' })
  t.notMatch(JSON.stringify([loads, flushes]), /hunter|secret/)
})

t.test('a message that got a 500 for a document that cannot be used is counted once, with its error', async (t) => {
  const storage = new MemoryStorage()
  await storage.write({ [USER_KEY]: { schemaVersion: 2 } })
  const { app, url } = await buildFastify(t, { storage, documents: { user: { version: { key: 'schemaVersion' } } } }, (app) => {
    app.post('/', async ({ state: { user } }) => {
      try {
        user.get('name')
      } catch {}
      user.get('name')
    })
  })
  t.equal((await post(url, message())).status, 500)
  t.match(app.botasState.stats, { loads: 1, loadFailures: 1, flushes: 0, lastError: { code: 'FST_BOTAS_STATE_NEWER_DOCUMENT', message: USER_KEY } })
})
