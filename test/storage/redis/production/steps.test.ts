import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { message } from '../../../helpers/activities.js'
import { post, settled } from '../../../helpers/build-fastify.js'
import { freePort } from '../../../helpers/free-port.js'
import { type Direction, lossyWay } from '../../../helpers/lossy-way.js'
import { startProcess } from '../../../helpers/node-process.js'
import { startRedis } from '../../../helpers/redis-server.js'

const CONVERSATION = 'botas:test/bot/conversations/conversation-1'

/** What happens to a process: it is killed as well, or only its connection to the server breaks. */
type Fault = 'a crash' | 'a connection that breaks'

/** A process of a bot whose way to the server can fail at any step. */
async function fragileBot (t: Test, redis: { port: number }, strategy: string, flush: string) {
  let left = Infinity
  let direction: Direction = 'requests'
  let fault: Fault = 'a crash'
  const way = await lossyWay(t, redis.port, (by) => {
    if (by !== direction || --left !== 0) return false
    if (fault === 'a crash') child.kill('SIGKILL')
    return true
  })
  const port = await freePort()
  const { child, lines } = startProcess(t, 'once-bot.js', way, String(port), strategy, flush, '0')
  await lines.next()
  const url = `http://127.0.0.1:${port}`
  return {
    url,
    child,
    /** At the next chunk but so many, on its way to the server, or back: with what it says done. */
    failAt: (step: number, of: Direction, what: Fault) => { [left, direction, fault] = [step, of, what] },
    /** Whether that has happened. */
    hasFailed: () => left <= 0
  }
}

const cases = ['parallel', 'queue', 'reject', 'replace'].flatMap((strategy) => ['onSend', 'onResponse'].map((flush) => ({ strategy, flush })))

t.test('whatever fails at whichever step between claim, load, save, mark and reply, an activity is done once, with one reply', { jobs: cases.length }, async (t) => {
  await Promise.all(cases.map(({ strategy, flush }) => t.test(`${strategy}, ${flush}`, { buffered: true }, async (t) => {
    const redis = await startRedis(t)
    const client = new Redis(redis.url)
    t.teardown(() => client.disconnect())
    const other = startProcess(t, 'once-bot.js', redis.url, String(await freePort()), strategy, flush, '0')
    const otherUrl = `http://127.0.0.1:${String((await other.lines.next()).value).split(' ')[1]}`
    let activities = 0
    for (const fault of ['a crash', 'a connection that breaks'] as const) {
      for (const step of [1, 2]) {
        for (const direction of ['requests', 'answers'] as const) {
          const bot = await fragileBot(t, redis, strategy, flush)
          // What is sent for the first time on a connection takes other steps.
          for (const n of [1, 2]) await post(bot.url, message({ id: `warm up ${activities} ${n}` }))
          const id = `a${activities++}`
          bot.failAt(step, direction, fault)
          const first = await post(bot.url, message({ id })).catch(() => undefined)
          // With onResponse the reply leaves before the last step.
          await settled(bot.hasFailed)
          const replies = first?.status === 200 ? [first.text] : []
          for (let delivery = 0; delivery < 2; delivery++) {
            await settled(async () => {
              const { status, text } = await post(otherUrl, message({ id }))
              if (status === 200) replies.push(text)
              return status === 200
            })
          }
          const { [id]: count } = JSON.parse(await client.get(CONVERSATION) as string)
          t.equal(count, 1, `${fault}, step ${step} of ${direction}: done once`)
          // What was answered before it was saved, and is lost with its process, is done by another delivery.
          const isLost = flush === 'onResponse' && fault === 'a crash' && step === 2 && direction === 'requests'
          t.ok(new Set(replies).size <= (isLost ? 2 : 1), 'with one reply')
          bot.child.kill('SIGKILL')
        }
      }
    }
  })))
})
