import type { Test } from 'tap'
import type { Storage } from '../../lib/index.js'
import { buildFastify, post } from './build-fastify.js'

const BOT = { channelId: 'test', botId: 'bot' }
const ADA = { ...BOT, userId: 'Ada1815' }
/** Whose key begins with that of Ada. */
const OTHER = { ...BOT, userId: 'Ada1815 II' }
const IN_CONVERSATION = { ...ADA, conversationId: 'conversation' }

/** Where a test stores something. */
export interface Forgetting {
  readonly storage: Storage
  /** All that is stored, with its name. Left out where that cannot be seen. */
  readonly everything?: () => Promise<string[]>
}

/**
 * What is left of a document that a turn forgets.
 *
 * @param once whether the storage remembers activities
 */
export function forgettingSuite (t: Test, make: (t: Test) => Promise<Forgetting>, { once = true } = {}): void {
  /** A bot that counts, and says who it talks to where nobody else is there. */
  const start = async (t: Test) => {
    const { storage, everything } = await make(t)
    const { app, url } = await buildFastify(t, {
      storage, once, flush: 'onSend', identify: ({ body }) => body as typeof ADA
    }, (app) => {
      app.post<{ Body: Partial<typeof IN_CONVERSATION> }>('/', async ({ body: { conversationId, userId }, state: { conversation, user } }) => {
        if (conversationId !== undefined) return { n: conversation.update<number>('n', (n = 0) => n + 1), of: user.update<number>('n', (n = 0) => n + 1) }
        return { n: user.update<number>('n', (n = 0) => n + 1), userId }
      })
    })
    const say = async (identity: object, activityId: string) => (await post(url, { ...identity, activityId })).body.n as number
    const forget = (identity = ADA, activityId?: string) => app.botasState.run({ ...identity, activityId }, (state) => state.deleteUserState())
    const named = async () => (await everything?.() ?? []).filter((record) => record.includes(ADA.userId))
    return { app, say, forget, named, isVisible: everything !== undefined }
  }

  t.test('of a user who is deleted nothing is left, right after that', async (t) => {
    const { app, say, forget, named, isVisible } = await start(t)
    for (const activityId of ['a', 'b', 'c']) await say(ADA, activityId)
    await app.botasState.run({ ...ADA, activityId: 'of run' }, ({ user }) => {
      user.set('name', 'Ada1815')
      return 'Ada1815'
    })
    for (const activityId of ['a', 'b']) await say(IN_CONVERSATION, activityId)
    await app.botasState.run(ADA, ({ user }) => user.set('without an activity', true))
    if (isVisible) t.not((await named()).length, 0)
    await forget()
    t.strictSame(await named(), [])
    await forget()
    t.strictSame(await named(), [], 'nor after it is deleted again')
    t.equal(await say(ADA, 'b'), 1, 'she begins anew')
    t.equal(await say(ADA, 'd'), 2)
    await forget()
    t.strictSame(await named(), [])
  })

  t.test('where a user is deleted together with a conversation, of both nothing is left', async (t) => {
    const { app, say, named } = await start(t)
    for (const activityId of ['a', 'b']) await say(ADA, activityId)
    for (const activityId of ['a', 'b']) await say(IN_CONVERSATION, activityId)
    await app.botasState.run(IN_CONVERSATION, (state) => {
      state.deleteConversationState()
      state.deleteUserState()
    })
    t.strictSame(await named(), [])
    t.equal(await say(IN_CONVERSATION, 'a'), 1)
    t.equal(await say(ADA, 'a'), 2)
  })

  if (!once) return

  t.test('what is remembered beside other documents stays: of a conversation, and of a user whose name begins alike', async (t) => {
    const { say, forget } = await start(t)
    for (const identity of [ADA, OTHER, IN_CONVERSATION]) for (const activityId of ['a', 'II a']) await say(identity, activityId)
    const before = await Promise.all([say(OTHER, 'a'), say(OTHER, 'II a'), say(IN_CONVERSATION, 'a'), say(IN_CONVERSATION, 'II a')])
    t.strictSame(before, [1, 2, 1, 2])
    await forget()
    t.strictSame(await Promise.all([say(OTHER, 'a'), say(OTHER, 'II a'), say(IN_CONVERSATION, 'a'), say(IN_CONVERSATION, 'II a')]), before)
    t.equal(await say(ADA, 'II a'), 1)
  })

  t.test('a conversation that is deleted forgets its activities, but not those of its user', async (t) => {
    const { app, say } = await start(t)
    for (const identity of [ADA, IN_CONVERSATION]) for (const activityId of ['a', 'b']) await say(identity, activityId)
    await app.botasState.run(IN_CONVERSATION, (state) => state.deleteConversationState())
    t.equal(await say(IN_CONVERSATION, 'b'), 1)
    t.equal(await say(ADA, 'b'), 2, 'which got the reply of the first delivery')
  })

  t.test('a scope that is only cleared forgets no activity', async (t) => {
    const { app, say } = await start(t)
    for (const identity of [ADA, IN_CONVERSATION]) await say(identity, 'a')
    await app.botasState.run(IN_CONVERSATION, ({ conversation, user }) => {
      conversation.clear()
      user.clear()
    })
    t.strictSame([await say(IN_CONVERSATION, 'a'), await say(ADA, 'a')], [1, 1])
    t.strictSame(await app.botasState.run(IN_CONVERSATION, ({ user }) => user.toJSON()), {})
  })

  t.test('of turns that are saved around a deletion none runs twice', async (t) => {
    const { app, say, forget } = await start(t)
    const runs = new Map<string, number>()
    const deliver = (id: string) => app.botasState.run({ ...ADA, activityId: id }, ({ user }) => {
      runs.set(id, (runs.get(id) ?? 0) + 1)
      user.update<string[]>('done', (done = []) => [...done, id])
    })
    for (let round = 0; round < 20; round++) {
      const ids = Array.from({ length: 4 }, (_, index) => `${round}-${index}`)
      await Promise.all([...ids.map(deliver), forget()])
      await Promise.all(ids.map(deliver))
      const done = await app.botasState.run(ADA, ({ user }) => user.get<string[]>('done') ?? [])
      // One that was saved before the deletion is forgotten with it, and done again; what is there was done once.
      t.equal(new Set(done).size, done.length)
    }
    await say(ADA, 'last')
  })

  t.test('the activity by which a user is deleted is handled once all the same', async (t) => {
    for (const identity of [ADA, IN_CONVERSATION]) {
      const { app, say } = await start(t)
      for (const activityId of ['a', 'b']) await say(ADA, activityId)
      await say(identity, 'c')
      let runs = 0
      const bye = () => app.botasState.run({ ...identity, activityId: 'bye' }, (state) => {
        state.deleteUserState()
        return ++runs
      })
      t.strictSame([await bye(), await bye()], [1, 1])
      t.equal(await say(ADA, 'b'), 1, 'and no other')
    }
  })

  t.test('a turn that is under way when its user is deleted is handled once all the same', async (t) => {
    const { app, say, forget } = await start(t)
    for (const activityId of ['a', 'b']) await say(ADA, activityId)
    let runs = 0
    const work = (meanwhile: () => Promise<unknown>) => app.botasState.run({ ...ADA, activityId: 'under way' }, async ({ user }) => {
      await meanwhile()
      user.set('run', ++runs)
      return runs
    })
    t.equal(await work(() => forget()), 1)
    t.equal(await work(async () => {}), 1)
    t.equal(await say(ADA, 'b'), 1)
  })
}
