import { readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { FileStorage } from '../../lib/index.js'
import { CONVERSATION_KEY } from '../helpers/activities.js'
import { startProcess } from '../helpers/node-process.js'
import { startRedis } from '../helpers/redis-server.js'

/** `npm run soak` sets these higher. */
const TURNS = Number(process.env.PROCESS_TURNS ?? 2500)
const KILLS = Number(process.env.KILLS ?? 10)

interface Document extends Record<string, unknown> {
  count: number
}

/** Lets processes run turns on the same conversations and gives what is stored, and the longest turn in milliseconds. */
async function runProcesses (t: Test, { processes, turns, conversations, concurrency }: Record<string, number>) {
  const { url } = await startRedis(t)
  const names = Array.from({ length: processes as number }, (_, index) => `p${index}`)
  const longest = await Promise.all(names.map(async (name) => {
    const { lines, exited } = startProcess(t, 'hot-conversations.js', url, name, String(turns), String(conversations), String(concurrency))
    const { value } = await lines.next()
    t.strictSame(await exited, { code: 0, signal: null, errors: '' })
    return Number(value)
  }))
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  const read = async (key: string) => JSON.parse(await client.get(`botas:test/bot/${key}`) ?? 'null') as Document
  return {
    names,
    longest: Math.max(...longest),
    conversations: await Promise.all(Array.from({ length: conversations as number }, (_, index) => read(`conversations/${index}`))),
    users: await Promise.all(names.map((name) => read(`users/${name}`)))
  }
}

t.test(`4 processes with ${TURNS} turns each over 8 conversations lose nothing`, async (t) => {
  const { names, conversations, users, longest } = await runProcesses(t, { processes: 4, turns: TURNS, conversations: 8, concurrency: 16 })
  const counts = conversations.map(({ count }) => count)
  t.equal(counts.reduce((sum, count) => sum + count), 4 * TURNS)
  for (const [index, { count, ...rest }] of conversations.entries()) {
    const last = TURNS - 1 - (TURNS - 1 - index) % 8
    t.equal(count, 4 * (Math.floor(last / 8) + 1))
    t.strictSame(Object.keys(rest).sort(), names.map((name) => `process-${name}`))
  }
  t.strictSame(users, names.map(() => ({ count: TURNS })))
  t.comment(`the longest turn took ${longest} ms`)
})

t.test('of 8 processes on one key every writer gets through', async (t) => {
  const turns = TURNS / 10
  const { conversations, longest } = await runProcesses(t, { processes: 8, turns, conversations: 1, concurrency: 4 })
  t.equal(conversations[0]?.count, 8 * turns)
  t.comment(`the longest turn took ${longest} ms`)
})

t.test(`a bot on files that is killed ${KILLS} times leaves complete files and every turn that it answered`, async (t) => {
  const directory = t.testdir()
  const path = join(directory, `${encodeURIComponent(CONVERSATION_KEY)}.json`)
  let answered = 0
  let leftovers = 0
  for (let kill = 0; kill < KILLS; kill++) {
    const { child, lines, exited } = startProcess(t, 'save-without-end.js', directory)
    answered = Number((await lines.next()).value)
    await wait(Math.random() * 60)
    child.kill('SIGKILL')
    for (let line = await lines.next(); line.done !== true; line = await lines.next()) answered = Number(line.value)
    t.match(await exited, { signal: 'SIGKILL', errors: '' })
    const { count } = JSON.parse(await readFile(path, 'utf8')) as Document
    // The last turn may have been saved without its answer getting out.
    t.ok(count === answered || count === answered + 1, `turn ${answered} was answered, the file says ${count}`)
    answered = count
    leftovers += (await readdir(directory)).length - 1
    if (leftovers === 0) await writeFile(join(directory, '=left-over-1.tmp'), '{')
  }
  const storage = new FileStorage(directory)
  await storage.read([CONVERSATION_KEY])
  await storage.close()
  t.strictSame(await readdir(directory), [`${encodeURIComponent(CONVERSATION_KEY)}.json`], 'temporary files are gone')
  t.comment(`${answered} turns, ${leftovers} times a temporary file was left`)
})
