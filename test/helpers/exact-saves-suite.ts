import { setTimeout as wait } from 'node:timers/promises'
import type { Test } from 'tap'
import { type TestServer, buildFastify } from './build-fastify.js'
import { type Direction, losingWay, wayTo } from './lossy-way.js'
import type { TestedServer } from './tested-servers.js'

const IDENTITY = { channelId: 'test', botId: 'bot', conversationId: 'c', userId: 'u' }
const CONVERSATION = 'test/bot/conversations/c'
const USER = 'test/bot/users/u'
const plus = (by: number) => (n = 0) => n + by

/**
 * What saves promise on connections that break.
 *
 * @param remembersRemovals whether a document that was removed meanwhile is known to have been saved
 * @param runs how many saves of each of two processes are tried; EXACT_SAVES_RUNS sets it otherwise
 */
export function exactSavesSuite (
  t: Test, newServer: (t: Test) => Promise<TestedServer>, { remembersRemovals, runs = 100 }: { remembersRemovals: boolean, runs?: number }
): void {
  t.test('a save whose answer was lost is known to be done, also when somebody has saved the document since', async (t) => {
    const server = await newServer(t)
    await server.start()
    for (const lost of ['requests', 'answers'] as const) {
      const way = await losingWay(t, server.port)
      const { app } = await buildFastify(t, { storage: server.storageAt(way.port) }, () => {})
      const somebody = server.storageAt(server.port)
      t.teardown(() => somebody.close())
      await somebody.write({ [CONVERSATION]: { n: 5 }, [USER]: { n: 5 } })
      const add = (meanwhile?: Direction) => app.botasState.run(IDENTITY, ({ conversation, user }) => {
        if (meanwhile !== undefined) way.lose(meanwhile)
        conversation.update('n', plus(1))
        return remembersRemovals ? user.update('n', plus(1)) : 6
      })
      const saved = add(lost)
      if (lost === 'answers') {
        // The command is sent again after 50 ms at the earliest.
        while ((await somebody.read([CONVERSATION]) as Record<string, { n: number }>)[CONVERSATION]?.n !== 6) { /* not there yet */ }
        await somebody.update(CONVERSATION, (document) => ({ n: document?.n as number - 1 }))
        if (remembersRemovals) await somebody.delete([USER])
      }
      t.equal(await saved, 6)
      const user = remembersRemovals ? (lost === 'answers' ? {} : { [USER]: { n: 6 } }) : { [USER]: { n: 5 } }
      t.strictSame(await somebody.read([CONVERSATION, USER]), { [CONVERSATION]: { n: lost === 'answers' ? 5 : 6 }, ...user }, lost)
    }
  })

  t.test('a save whose answer was lost is known to be done, also when twenty others have saved the document since', async (t) => {
    const server = await newServer(t)
    await server.start()
    const way = await losingWay(t, server.port)
    const { app } = await buildFastify(t, { storage: server.storageAt(way.port) }, () => {})
    const others = Array.from({ length: 20 }, () => server.storageAt(server.port))
    for (const storage of others) t.teardown(() => storage.close())
    const [first] = others as [typeof others[0] & {}]
    // Connected, so that it takes them no time.
    await Promise.all(others.map((storage) => storage.read([CONVERSATION])))
    const saved = app.botasState.run(IDENTITY, ({ conversation }) => {
      way.lose('answers')
      conversation.update('n', plus(1))
    })
    while ((await first.read([CONVERSATION]))[CONVERSATION] === undefined) { /* not there yet */ }
    await Promise.all(others.map((storage, index) => storage.update(CONVERSATION, (document) => ({ ...document, [index]: true }))))
    await saved
    t.match(await first.read([CONVERSATION]), { [CONVERSATION]: { n: 1, 0: true, 19: true } })
  })

  if (remembersRemovals) {
    t.test('a user who is deleted by another process while the answer of a save is lost stays deleted', async (t) => {
      const server = await newServer(t)
      await server.start()
      const way = await losingWay(t, server.port)
      const identity = { ...IDENTITY, conversationId: undefined }
      const [losing, deleting] = await Promise.all([way.port, server.port].map((port) =>
        buildFastify(t, { storage: server.storageAt(port) }, () => {}))) as [TestServer, TestServer]
      const { storage } = deleting.app.botasState
      await deleting.app.botasState.run(identity, ({ user }) => user.set('n', 1))
      const saved = losing.app.botasState.run(identity, ({ user }) => {
        way.lose('answers')
        return user.update('n', plus(1))
      })
      while ((await storage.read([USER]) as Record<string, { n: number }>)[USER]?.n !== 2) { /* not there yet */ }
      await deleting.app.botasState.run(identity, (state) => state.deleteUserState())
      t.equal(await saved, 2)
      t.strictSame(await storage.read([USER]), {})
    })
  }

  t.test('on connections that break all the time, with others who bring documents back, every save is done once and none is in doubt', async (t) => {
    const server = await newServer(t)
    await server.start()
    const times = Number(process.env.EXACT_SAVES_RUNS ?? runs)
    const ways = await Promise.all([1, 2].map(() => wayTo(t, server.port, () => Math.random() < 0.05)))
    const apps = await Promise.all(ways.map(({ port }) => buildFastify(t, { storage: server.storageAt(port), loadTimeout: 20_000 }, () => {})))
    const somebody = server.storageAt(server.port)
    t.teardown(() => somebody.close())
    const others = new AbortController()
    // What a turn was loaded with is stored again in a moment.
    const bringingBack = [0, 1].map(async () => {
      while (!others.signal.aborted) {
        await somebody.update(CONVERSATION, (document) => ({ ...document, n: ((document?.n as number | undefined) ?? 0) + 1 }))
        await somebody.update(CONVERSATION, (document) => ({ ...document, n: (document?.n as number) - 1 }))
        // Who is farther away, or encrypts, and so never finds again what it has loaded, is to have a chance.
        await wait(Math.random() * 3)
      }
    })
    await Promise.all(apps.map(async ({ app }) => {
      for (let run = 0; run < times; run++) {
        await app.botasState.run(IDENTITY, ({ conversation, user }) => {
          conversation.update('n', plus(1))
          if (run % 2 === 0) user.update('n', plus(1))
        })
      }
    }))
    others.abort()
    await Promise.all(bringingBack)
    t.strictSame(await somebody.read([CONVERSATION, USER]), { [CONVERSATION]: { n: 2 * times }, [USER]: { n: times } })
    t.comment(`${apps.map(({ app }) => app.botasState.stats.loadRetries + app.botasState.stats.flushRetries).join(' and ')} retries`)
  })
}
