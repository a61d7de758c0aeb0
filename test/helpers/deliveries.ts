import { setTimeout as wait } from 'node:timers/promises'
import type { Test } from 'tap'
import { message } from './activities.js'
import { freePort } from './free-port.js'
import { startProcess } from './node-process.js'

const CONVERSATIONS = 4
const DELIVERIES_AT_A_TIME = 10
/** In place of the reply of a turn that was replaced. */
const REPLACED = 'replaced'

/**
 * Delivers activities as a channel does that is never sure: each three times, at once, 50 ms apart, and after the end; again
 * until it gets a 200, or hears that the turn was replaced. The processes are killed meanwhile, and started again.
 *
 * @param counts gives what a document says that activities have done, by their ids; by default a bot is asked
 */
export async function deliverThreeTimes (
  t: Test,
  { storage, processes, activities, kills, concurrency = 'parallel', flush = 'onSend' }:
  { storage: string, processes: number, activities: number, kills: number, concurrency?: string, flush?: string },
  counts?: (key: string) => Promise<Record<string, number>>
) {
  const ports = await Promise.all(Array.from({ length: processes }, freePort))
  const start = async (port: number) => {
    const { child, lines } = startProcess(t, 'once-bot.js', storage, String(port), concurrency, flush)
    await lines.next()
    return child
  }
  const running = await Promise.all(ports.map(start))
  const over = new AbortController()
  const killing = (async () => {
    for (let kill = 0; kill < kills && !over.signal.aborted; kill++) {
      await wait(300 + Math.random() * 700)
      const index = kill % processes
      running[index]?.kill('SIGKILL')
      running[index] = await start(ports[index] as number)
    }
  })()

  let replayed = 0
  let deliveries = 0
  const deliver = async (id: string, conversation: string): Promise<string> => {
    for (let attempt = 0; ; attempt++) {
      deliveries++
      const port = ports[Math.floor(Math.random() * processes)]
      const reply = await fetch(`http://127.0.0.1:${port}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(message({ id, conversation, user: conversation }))
      }).then(async (response) => ({ status: response.status, isReplayed: response.headers.has('botas-state'), text: await response.text() }), () => undefined)
      if (reply?.isReplayed === true) replayed++
      if (reply?.status === 200) return reply.text
      // The first delivery of a turn that was replaced gets an error, the next ones get the same status.
      if (reply?.status === 409 && (reply.isReplayed || reply.text.includes('FST_BOTAS_STATE_REPLACED'))) return REPLACED
      await wait(20 + Math.random() * 50)
    }
  }
  const different: string[][] = []
  const replaced = new Set<string>()
  let next = 0
  await Promise.all(Array.from({ length: DELIVERIES_AT_A_TIME }, async () => {
    while (next < activities) {
      const number = next++
      const [id, conversation] = [`a${number}`, String(number % CONVERSATIONS)]
      const atOnce = await Promise.all([deliver(id, conversation), deliver(id, conversation), wait(50).then(() => deliver(id, conversation))])
      const replies = new Set([...atOnce, await deliver(id, conversation)])
      if (replies.size > 1) different.push([id, ...replies])
      if (replies.has(REPLACED)) replaced.add(id)
    }
  }))
  over.abort()
  await killing
  const ask = async (key: string) => await (await fetch(`http://127.0.0.1:${ports[0]}/stored?key=${encodeURIComponent(key)}`)).json() as Record<string, number>
  // What is answered before it is saved may be lost with its process: then another delivery of it is answered anew.
  if (flush === 'onSend' || kills === 0) t.strictSame(different, [], 'every delivery got the reply of the first one')
  for (let conversation = 0; conversation < CONVERSATIONS; conversation++) {
    const expected = Object.fromEntries(Array.from({ length: activities }, (_, number) => number)
      .filter((number) => number % CONVERSATIONS === conversation && !replaced.has(`a${number}`)).map((number) => [`a${number}`, 1]))
    for (const kind of ['conversations', 'users']) {
      const found = await (counts ?? ask)(`test/bot/${kind}/${conversation}`)
      const wrong = Object.keys({ ...expected, ...found }).filter((id) => found[id] !== expected[id]).map((id) => [id, found[id]])
      // The last delivery was answered, too, before it was saved; so was one that was replaced, before it was marked: the next one is handled.
        .filter(([id, count]) => flush === 'onSend' || kills === 0 || (count !== undefined && !(replaced.has(String(id)) && count === 1)))
      t.strictSame(wrong, [], `${kind}/${conversation}: each activity has done once what it does`)
    }
  }
  for (const child of running) child.kill('SIGTERM')
  t.ok(replaced.size < activities / 2 && replayed > activities, 'most are done, and delivered again')
  t.comment(`${activities} activities, ${deliveries} deliveries, ${replayed} replayed, ${replaced.size} replaced, ${kills} kills`)
}
