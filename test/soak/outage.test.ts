import { Redis } from 'ioredis'
import t from 'tap'
import { startProcess } from '../helpers/node-process.js'
import { restartableRedis } from '../helpers/redis-server.js'

/** The long outage: in seconds, and turns a second. More of it in `npm run soak`. */
const OUTAGE_SECONDS = Number(process.env.OUTAGE_SECONDS ?? 8)
const TURNS_A_SECOND = 500

t.test(`an outage of ${OUTAGE_SECONDS} s at ${TURNS_A_SECOND} turns a second takes no more memory than its beginning`, async (t) => {
  const redis = await restartableRedis(t)
  await redis.start()
  const { child, lines, exited } = startProcess(t, 'bot-in-outage.js', redis.url, String(TURNS_A_SECOND))
  const report = async () => JSON.parse((await lines.next()).value) as { sent: number, succeeded: number, failed: number, latest: number, openTurns: number, heap: number }
  for (let second = 0; second < 3; second++) await report()
  t.ok((await report()).succeeded > TURNS_A_SECOND)
  await redis.stop()
  const heaps: number[] = []
  for (let second = 0; second < OUTAGE_SECONDS; second++) heaps.push((await report()).heap)
  const before = await report()
  await redis.start()
  for (let second = 0; second < 3; second++) await report()
  const client = new Redis(redis.url)
  const calls = (stats: string, command: string) => Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0)
  const stats = await client.info('commandstats')
  // The script that saves reads the token and the document, too.
  const loads = calls(stats, 'get') - 2 * (calls(stats, 'evalsha') + calls(stats, 'eval'))
  client.disconnect()
  // Later than the statistics: turns go on.
  const after = await report()
  child.kill('SIGTERM')
  t.match(await exited, { code: 0, errors: '' })
  const megabytes = heaps.map((heap) => Math.round(heap / 1e6))
  t.comment(`heap by the second, in MB: ${megabytes.join(' ')}; ${before.failed} turns failed, ${after.succeeded - before.succeeded} succeeded afterwards with ${loads} GETs`)
  // Turns that wait pile up until the first of them are given up, after 5 seconds.
  const settledHeap = Math.max(...heaps.slice(5, 7))
  t.ok((heaps.at(-1) as number) < settledHeap * 1.2, 'memory stays flat')
  t.ok(after.succeeded > before.succeeded, 'turns work again')
  t.ok(loads <= after.sent - before.sent + before.openTurns, 'nothing is sent for turns that were given up')
})
