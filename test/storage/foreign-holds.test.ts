import Fastify from 'fastify'
import t, { type Test } from 'tap'
import botasState, { type Storage } from '../../lib/index.js'
import { message } from '../helpers/activities.js'
import { buildFastify, post } from '../helpers/build-fastify.js'
import { LeasesOnly, LeasingStorage, newServer } from '../helpers/leasing-storage.js'
import { RecordingStorage } from '../helpers/recording-storage.js'

const IDENTITY = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1', userId: 'user-1' }
const KEY = 'test/bot/conversations/conversation-1'
const PLACE = `place:${KEY}`

/** Two storages of one server: with leases, and with commits beside. */
function leasingStorages () {
  return [LeasesOnly, LeasingStorage].map((Class) => {
    const server = newServer()
    return { name: Class.name, server, storage: new Class(server) as Storage }
  })
}

t.test('a turn that lost its lease is merged and counted with queue, and refused with replace', async (t) => {
  for (const strategy of ['queue', 'replace'] as const) {
    for (const { name, server, storage } of leasingStorages()) {
      const { app, url } = await buildFastify(t, { storage, flush: 'onSend', concurrency: strategy }, (app) => {
        app.post('/', async ({ state: { conversation } }) => {
          conversation.set('mine', 1)
          server.documents.set(KEY, '{"theirs":1}')
          server.leases.set(PLACE, { holder: 'somebody', until: Date.now() + 60_000 })
        })
      })
      const { status } = await post(url, message())
      t.equal(status, strategy === 'queue' ? 200 : 409, name)
      t.match(app.botasState.stats, strategy === 'queue' ? { leasesLost: 1, replacedTurns: 0 } : { leasesLost: 0, replacedTurns: 1 })
      t.strictSame(JSON.parse(server.documents.get(KEY) as string), strategy === 'queue' ? { theirs: 1, mine: 1 } : { theirs: 1 })
      t.equal(server.leases.get(PLACE)?.holder, 'somebody', 'nobody else\'s lease is given back')
      await app.close()
    }
  }
})

t.test('reject refuses a turn whose place another process has', async (t) => {
  for (const { server, storage } of leasingStorages()) {
    server.leases.set(PLACE, { holder: 'somebody', until: Date.now() + 60_000 })
    const { url } = await buildFastify(t, { storage, concurrency: 'reject' }, (app) => { app.post('/', async () => {}) })
    t.match(await post(url, message()), { status: 409, body: { code: 'FST_BOTAS_STATE_BUSY' } })
  }
})

t.test('a run inside a turn leaves its place to the turn', async (t) => {
  for (const { server, storage } of leasingStorages()) {
    const { app, url } = await buildFastify(t, { storage, flush: 'onSend', concurrency: 'queue' }, (app) => {
      app.post('/', async ({ state: { conversation } }) => {
        await app.botasState.run(IDENTITY, ({ user }) => user.set('n', 1))
        conversation.set('n', 1)
        return { isHeld: server.leases.has(PLACE) }
      })
    })
    t.strictSame((await post(url, message())).body, { isHeld: true })
    t.notOk(server.leases.has(PLACE))
    t.equal(app.botasState.stats.leasesLost, 0)
  }
})

/** What a storage has, and no more. */
function only (storage: LeasingStorage, ...methods: Array<'lease' | 'commit' | 'recall'>): Storage {
  const names = ['read', 'write', 'delete', ...methods] as const
  return Object.fromEntries(names.map((name) => [name, storage[name].bind(storage)])) as unknown as Storage
}

t.test('commit saves the documents of a turn in one step, whatever else there is', async (t) => {
  for (const methods of [['commit'], ['commit', 'lease'], ['commit', 'recall']] as const) {
    const storage = new LeasingStorage()
    const { app } = await buildFastify(t, { storage: only(storage, ...methods), concurrency: 'queue' }, () => {})
    await t.rejects(app.botasState.run(IDENTITY, ({ conversation, user }) => {
      conversation.set('n', 1)
      user.update('n', (n) => {
        if (n !== undefined) throw new Error('not twice')
        return 1
      })
      return storage.write({ 'test/bot/users/user-1': { n: 2 } })
    }), { code: 'FST_BOTAS_STATE_SAVE_FAILED', message: /saved: none/ })
    t.strictSame(await storage.read([KEY]), {}, methods.join())
    await app.botasState.run(IDENTITY, ({ conversation, user }) => {
      conversation.set('n', 1)
      user.set('n', 1)
    })
    t.strictSame(await storage.read([KEY]), { [KEY]: { n: 1 } })
  }
})

t.test('without a lease an activity is handled once all the same: of two at once one is stored, and the other comes again', async (t) => {
  const storage = new LeasingStorage()
  const bots = await Promise.all([1, 2].map(() => buildFastify(t, { storage: only(storage, 'commit', 'recall'), once: true }, (app) => {
    app.post('/', async ({ state: { conversation } }) => conversation.update<number>('n', (n = 0) => n + 1))
  })))
  const replies = await Promise.all(bots.map(({ url }) => post(url, message({ id: 'a' }))))
  t.strictSame(replies.map(({ status }) => status).sort(), [200, 503])
  for (const { url } of bots) t.equal((await post(url, message({ id: 'a' }))).status, 200)
  t.strictSame(await storage.read([KEY]), { [KEY]: { n: 1 } })
})

t.test('a corrupt document can be cleared by a commit', async (t) => {
  const storage = new LeasingStorage()
  await storage.write({ [KEY]: ['no object'] })
  const { app } = await buildFastify(t, { storage }, () => {})
  await app.botasState.run(IDENTITY, (state) => state.deleteConversationState())
  t.strictSame(await storage.read([KEY]), {})
})

t.test('once is refused, by name, where a storage has leases but cannot commit', async (t) => {
  const methods = [[], ['lease'], ['commit', 'lease']] as const
  for (const names of methods) {
    await t.rejects(async () => { await Fastify().register(botasState, { storage: only(new LeasingStorage(), ...names), once: true }) }, {
      code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /"commit" and "recall"; Object has not/
    })
  }
  const nameless = Object.assign(Object.create(null), only(new LeasingStorage())) as Storage
  await t.rejects(async () => { await Fastify().register(botasState, { storage: nameless, once: true }) }, { message: /; a storage has not/ })
})

t.test('an activity whose claim could not be given back is handled by the next delivery in the process', async (t) => {
  const storage = new LeasingStorage()
  const lease = storage.lease.bind(storage)
  storage.lease = async (...args) => {
    if (args[2] === 0) throw new Error('of the storage')
    return lease(...args)
  }
  let runs = 0
  const { url } = await buildFastify(t, { storage, once: true }, (app) => {
    app.post('/', async () => {
      if (runs++ === 0) throw new Error('the first one')
      return { runs }
    })
  })
  t.equal((await post(url, message({ id: 'a' }))).status, 500)
  t.strictSame((await post(url, message({ id: 'a' }))).body, { runs: 2 })
})

t.test('a storage that others may use, who do not see its places, is told of when the server starts', async (t) => {
  const logged = async (t: Test, storage: Storage, concurrency: 'parallel' | 'queue') => {
    const messages: string[] = []
    const app = Fastify({ logger: { stream: { write: (line: string) => { messages.push(JSON.parse(line).msg) } } } })
    t.teardown(() => app.close())
    await app.register(botasState, { storage, concurrency })
    return messages
  }
  const said = ['turns wait for each other within this process only: the storage has no leases']
  for (const storage of [new RecordingStorage(), only(new LeasingStorage(), 'commit', 'recall')]) {
    t.strictSame(await logged(t, storage, 'queue'), said)
    t.strictSame(await logged(t, storage, 'parallel'), [])
  }
  t.strictSame(await logged(t, new LeasingStorage(), 'queue'), [])
})
