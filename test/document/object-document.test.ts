import Fastify from 'fastify'
import t from 'tap'
import botasState, { MemoryStorage } from '../../lib/index.js'
import { CONVERSATION_KEY } from '../helpers/activities.js'
import { RecordingStorage } from '../helpers/recording-storage.js'

const identity = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1' }

t.test('what a storage of others gives, and this one could not store, is read as it is and left as it is', async (t) => {
  const at = new Date(0)
  const given = { far: Infinity, list: [1, -Infinity], at, big: 1n, bytes: Buffer.from('hi'), n: 1 }
  let written: Record<string, object> = {}
  const storage = {
    read: async () => ({ [CONVERSATION_KEY]: given }),
    write: async (documents: Record<string, unknown>) => { written = documents as typeof written },
    delete: async () => {}
  }
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(botasState, storage)
  await app.botasState.run(identity, ({ conversation }) => {
    t.equal(conversation.get('far'), Infinity)
    t.strictSame(conversation.get('list'), [1, -Infinity])
    t.equal(conversation.get('at'), at.toISOString())
    t.equal(conversation.get('bytes'), 'aGk=')
    t.equal(conversation.get('big'), undefined)
    conversation.get<number[]>('list')?.push(2)
    conversation.get<number[]>('list')?.pop()
    conversation.update<number>('n', (n) => (n ?? 0) + 1)
  })
  t.strictSame(written, { [CONVERSATION_KEY]: { ...given, n: 2 } })
  await t.rejects(app.botasState.run(identity, ({ conversation }) => { conversation.get<number[]>('list')?.push(3) }),
    { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE' })
})

t.test('an update begins anew where another turn has deleted the key, in a storage of this package or of others', async (t) => {
  for (const storage of [new RecordingStorage(), new MemoryStorage()]) {
    await storage.write({ [CONVERSATION_KEY]: { n: 5, kept: true } })
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(botasState, storage)
    await app.botasState.run(identity, async ({ conversation }) => {
      conversation.update<number>('n', (n) => (n ?? 0) + 1)
      await app.botasState.run(identity, ({ conversation }) => { conversation.delete('n') })
    })
    t.strictSame(await storage.read([CONVERSATION_KEY]), { [CONVERSATION_KEY]: { n: 1, kept: true } })
  }
})

t.test('an object that fails to turn into JSON only at the end of the turn fails its save', async (t) => {
  const storage = new RecordingStorage()
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(botasState, storage)
  await t.rejects(app.botasState.run(identity, ({ conversation }) => {
    let fails = false
    conversation.set('list', [{
      get secret () {
        if (fails) throw new Error('hunter2')
        return 'hunter2'
      }
    }])
    fails = true
  }), { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE', message: /^"list" in the conversation state .* fails to turn into JSON$/ })
  t.equal(storage.count('update'), 0)
})
