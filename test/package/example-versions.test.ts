import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import t from 'tap'
import { v3 } from '../../example/versions/state-v3.js'
import { MemoryStorage, type StateDocument, checkDocuments } from '../../lib/index.js'
import { USER_KEY, message } from '../helpers/activities.js'
import { type BotProcess, startExample } from '../helpers/bot-process.js'
import { buildFastify, post } from '../helpers/build-fastify.js'
import { startRedis } from '../helpers/redis-server.js'

async function say (bot: BotProcess, text: string): Promise<unknown> {
  const { status, body } = await post(bot.url, message({ text }))
  return status === 200 ? body.text : [status, body.code]
}

const NEWER = [500, 'FST_BOTAS_STATE_NEWER_DOCUMENT']
const LATEST = /^Hello Ada, this is visit #5, the latest was at \d{4}-\d\d-\d\dT[\d:.]+Z\.$/

t.test('a bot is deployed in three versions, rolled back and rolled forward, and loses nothing', async (t) => {
  const directory = t.testdir()
  const deploy = (version: string) => startExample(t, 'versions/main.ts', directory, version === '' ? {} : { VERSION: version })
  const stored = () => readFile(join(directory, 'state-data/versions', `${encodeURIComponent(USER_KEY)}.json`), 'utf8')

  let bot = await deploy('1')
  t.equal(await say(bot, 'Hi'), 'Hello stranger, this is visit #1.')
  t.equal(await say(bot, 'I am Ada Lovelace'), 'Hello Ada Lovelace, this is visit #2.')
  t.equal(await bot.stop(), 0)
  t.strictSame(JSON.parse(await stored()), { visits: 2, schemaVersion: 1, name: 'Ada Lovelace' })

  bot = await deploy('2')
  t.equal(await say(bot, 'Hi'), 'Hello Ada, this is visit #3.')
  t.equal(await bot.stop(), 0)
  t.strictSame(JSON.parse(await stored()), { visits: 3, schemaVersion: 2, first: 'Ada', last: 'Lovelace' })

  bot = await deploy('')
  t.equal(await say(bot, 'Hi'), 'Hello Ada, this is visit #4.')
  t.equal(await bot.stop(), 0)
  const newest = await stored()
  t.match(JSON.parse(newest), { visits: { count: 4, latest: String }, schemaVersion: 3, first: 'Ada', last: 'Lovelace' })

  for (const version of ['2', '1']) {
    bot = await deploy(version)
    t.strictSame(await say(bot, 'Hi'), NEWER)
    t.strictSame(await say(bot, 'I am Grace Hopper'), NEWER)
    t.match(bot.output(), /has version 3, and this code knows version [12] at most/)
    t.notMatch(bot.output(), /Grace|Hopper/)
    t.equal(await bot.stop(), 0)
    t.equal(await stored(), newest)
  }

  bot = await deploy('3')
  t.match(await say(bot, 'Hi'), LATEST)
  t.equal(await bot.stop(), 0)
})

t.test('while two versions are deployed side by side on Redis, whoever the new one has greeted is not the old one\'s any more', async (t) => {
  const { url } = await startRedis(t)
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  const key = `botas:${USER_KEY}`
  await client.set(key, '{"name":"Ada Lovelace","visits":2}')
  const directory = t.testdir()
  const [old, now] = await Promise.all(['2', '3'].map((VERSION) => startExample(t, 'versions/main.ts', directory, { VERSION, STATE_STORAGE: url }))) as [BotProcess, BotProcess]
  t.equal(await say(old, 'Hi'), 'Hello Ada, this is visit #3.')
  const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => say(n % 2 === 0 ? old : now, 'Hi')))
  const greeted = answers.filter((answer) => typeof answer === 'string').length
  t.ok(greeted >= 10, 'all messages to the new version were answered')
  t.strictSame(answers.filter((answer) => typeof answer !== 'string'), Array(20 - greeted).fill(NEWER))
  const { visits, ...rest } = JSON.parse(await client.get(key) ?? '')
  t.equal(visits.count, 3 + greeted)
  t.strictSame(rest, { first: 'Ada', last: 'Lovelace', schemaVersion: 3 })
  const before = await client.get(key)
  t.strictSame(await say(old, 'Hi'), NEWER)
  t.equal(await client.get(key), before)
  t.strictSame(await Promise.all([old.stop(), now.stop()]), [0, 0])
})

for (const version of [1, 2]) {
  t.test(`documents of version ${version}, as they were once stored, become what they are expected to be`, async (t) => {
    const pinned: Array<{ was: StateDocument, is: StateDocument }> = JSON.parse(readFileSync(new URL(`../documents/visitor-v${version}.json`, import.meta.url), 'utf8'))
    const storage = new MemoryStorage()
    const { app } = await buildFastify(t, { storage, documents: v3.documents }, () => {})
    for (const { was, is } of pinned) {
      await storage.write({ [USER_KEY]: was })
      await app.botasState.run({ channelId: 'test', botId: 'bot', userId: 'user-1' }, ({ user }) => {
        t.strictSame(user.toJSON(), { ...is, schemaVersion: 3 })
      })
      t.strictSame(await checkDocuments(storage, [USER_KEY], v3.documents), [])
      t.strictSame(await storage.read([USER_KEY]), { [USER_KEY]: was })
    }
  })
}

t.test('a version that there is not is said in one line', async (t) => {
  await t.rejects(startExample(t, 'versions/main.ts', t.testdir(), { VERSION: '4' }), { message: 'the example did not start: VERSION must be 1, 2 or 3, got 4\n' })
})
