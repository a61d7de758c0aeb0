import t from 'tap'
import { buildFastify } from '../../helpers/build-fastify.js'
import { exactSavesSuite } from '../../helpers/exact-saves-suite.js'
import { wayTo } from '../../helpers/lossy-way.js'
import { testedServers } from '../../helpers/tested-servers.js'

exactSavesSuite(t, testedServers.Postgres, { remembersRemovals: true })

t.test('an activity of which nothing is stored but that it was handled is handled once, whichever answer of its save is lost', async (t) => {
  const server = await testedServers.Postgres(t)
  await server.start()
  let answers = Infinity
  const way = await wayTo(t, server.port, (direction) => direction === 'answers' && --answers === 0)
  const { app } = await buildFastify(t, { storage: server.storageAt(way.port), once: true, concurrency: 'queue' }, () => {})
  for (const lost of [1, 2, 3]) {
    let runs = 0
    const handle = () => app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: 'c', activityId: String(lost) }, () => {
      answers = lost
      return ++runs
    })
    t.equal(await handle(), 1)
    answers = Infinity
    t.equal(await handle(), 1)
    t.equal(runs, 1)
  }
})
