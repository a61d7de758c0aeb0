import { existsSync, linkSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn, setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import { FileStorage, type TurnState } from '../../../lib/index.js'
import { message } from '../../helpers/activities.js'
import { buildFastify, post } from '../../helpers/build-fastify.js'

t.test('what a killed process had decided to save is done before anything is read, and what it had not is not', async (t) => {
  const directory = t.testdir({
    'changed.json': '{"n":1}',
    'removed.json': '{"n":1}',
    '=dead-0.tmp': '{"n":2}',
    '=dead-1.tmp': '{"n":3}',
    '=dead-2.save': JSON.stringify([['=dead-0.tmp', 'changed.json'], [null, 'removed.json'], ['=dead-9.tmp', 'in its place already.json']]),
    '=dead-3.save': '[["=dead-1.tmp", "undecided'
  })
  const storage = new FileStorage(directory)
  t.strictSame(await storage.read(['changed', 'removed', 'undecided']), { changed: { n: 2 } })
  await storage.close()
  t.strictSame(readdirSync(directory), ['changed.json'])
})

t.test('of a save that cannot be prepared nothing is done', async (t) => {
  const directory = t.testdir({ 'c%2Fb%2Fusers%2Fu.json': {} })
  const storage = new FileStorage(directory)
  writeFileSync(join(directory, 'kept.json'), '{"n":1}')
  await t.rejects(storage.update('c/b/users/u', () => ({ n: 1 })), { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT' })
  t.equal(readFileSync(join(directory, 'kept.json'), 'utf8'), '{"n":1}')
  t.notOk(existsSync(join(directory, '=handled')))
})

t.test('a directory that becomes a file while the server runs fails turns, and nothing of them is left', async (t) => {
  const directory = join(t.testdir(), 'state')
  const { app } = await buildFastify(t, { storage: new FileStorage(directory), once: true }, () => {})
  const turn = (work: (state: TurnState) => void) => app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: 'c', userId: 'u' }, work)
  await turn(({ user }) => user.set('n', 1))
  await t.rejects(turn(({ conversation }) => {
    conversation.set('n', 1)
    renameSync(directory, `${directory}-aside`)
    writeFileSync(directory, '')
  }), { code: 'FST_BOTAS_STATE_SAVE_FAILED', message: /saved: none/, cause: { code: 'ENOTDIR' } })
  await t.rejects(turn(() => {}), { code: 'FST_BOTAS_STATE_LOAD_FAILED', cause: { code: 'ENOTDIR' } })
  rmSync(directory)
  renameSync(`${directory}-aside`, directory)
  await turn(({ user, conversation }) => {
    t.equal(user.get('n'), 1)
    t.equal(conversation.get('n'), undefined)
  })
  t.strictSame(readdirSync(directory), ['test%2Fbot%2Fusers%2Fu.json'])
})

t.test('what was kept of a reply that somebody has spoilt fails its next delivery, and is not quoted', async (t) => {
  const directory = t.testdir()
  const { app, url, log } = await buildFastify(t, { storage: new FileStorage(directory), once: true }, (app) => {
    app.post('/', async () => ({ text: 'a secret' }))
  })
  await post(url, message({ id: 'a' }))
  const [name] = readdirSync(join(directory, '=handled')) as [string]
  const path = join(directory, '=handled', name)
  writeFileSync(path, 'a secret that is no JSON')
  await (app.botasState.storage as FileStorage).prune()
  const { status, text } = await post(url, message({ id: 'a' }))
  t.equal(status, 500)
  t.match(JSON.stringify(log), /is not JSON; it was not modified/)
  t.notMatch(text + JSON.stringify(log), /secret/)
  t.equal(readFileSync(path, 'utf8'), 'a secret that is no JSON')
})

t.test('where an activity cannot be remembered, nothing of its turn is stored', async (t) => {
  const directory = t.testdir()
  const handled = join(directory, '=handled')
  let runs = 0
  const { url } = await buildFastify(t, { storage: new FileStorage(directory), once: true }, (app) => {
    app.post('/', async ({ state: { conversation, user } }) => {
      conversation.update<number>('n', (n = 0) => n + 1)
      user.update<number>('n', (n = 0) => n + 1)
      if (runs++ === 0) writeFileSync(handled, 'in the way')
    })
  })
  t.equal((await post(url, message({ id: 'a' }))).status, 500)
  t.strictSame(readdirSync(directory), ['=handled'])
  rmSync(handled)
  t.equal((await post(url, message({ id: 'a' }))).status, 200)
  t.strictSame(await new FileStorage(directory).read(['test/bot/users/user-1']), { 'test/bot/users/user-1': { n: 1 } })
})

t.test('two storages that are open on one directory store an activity once', async (t) => {
  const directory = t.testdir()
  const bots = await Promise.all([1, 2].map(() => buildFastify(t, { storage: new FileStorage(directory), once: true }, (app) => {
    app.post('/', async ({ state: { conversation } }) => {
      await wait(50)
      return { n: conversation.update<number>('n', (n = 0) => n + 1) }
    })
  })))
  const replies = await Promise.all(bots.map(({ url }) => post(url, message({ id: 'a' }))))
  t.strictSame(replies.map(({ status }) => status).sort(), [200, 503])
  for (const { url } of bots) t.match(await post(url, message({ id: 'a' })), { status: 200, body: { n: 1 } })
})

t.test('an activity that deletes its user, and comes again after its time, is remembered also where the process is killed at the very end', async (t) => {
  const directory = t.testdir()
  let runs = 0
  const start = async () => {
    const { app } = await buildFastify(t, { storage: new FileStorage(directory), once: true }, () => {})
    return () => app.botasState.run({ channelId: 'test', botId: 'bot', userId: 'u', activityId: 'bye' }, (state) => {
      state.user.set('n', 1)
      state.deleteUserState()
      return ++runs
    })
  }
  const bye = await start()
  await bye()
  const [mark] = readdirSync(join(directory, '=handled')) as [string]
  const other = mark.replace(/[0-9a-f]{64}\.json$/, `${'0'.repeat(64)}.json`)
  for (const name of [mark, other]) writeFileSync(join(directory, '=handled', name), '{"expires":0,"reply":"{}"}')
  const [list] = await Promise.all([listIn(directory), bye()])
  t.strictSame(readdirSync(join(directory, '=handled')), [mark])
  // As a process leaves it that is killed before it removes the list.
  renameSync(list, join(directory, '=dead-0.save'))
  const again = await start()
  t.equal(await again(), 2)
  t.equal(runs, 2)
})

/** Another name of the list of steps of the next save. */
async function listIn (directory: string): Promise<string> {
  for (;;) {
    const list = readdirSync(directory).find((name) => name.endsWith('.save'))
    if (list !== undefined) {
      linkSync(join(directory, list), join(directory, '=kept'))
      return join(directory, '=kept')
    }
    await nextTurn()
  }
}
