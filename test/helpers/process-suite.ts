import { setTimeout as wait } from 'node:timers/promises'
import type { Test } from 'tap'
import type { StateDocument } from '../../lib/index.js'
import { buildFastify, settled } from './build-fastify.js'
import { startProcess } from './node-process.js'
import type { TestedServer } from './tested-servers.js'

interface ProcessSuiteOptions {
  /** In each conversation, over all processes. Default 40; QUEUE_MESSAGES sets it higher. */
  messages?: number
  /** That wait their turn. Default 2. */
  processes?: number
  /** That are shared by the processes. Default 4. */
  conversations?: number
  /** In milliseconds. Default 1500. */
  lease?: number
}

/** What several processes promise that share a server. */
export function processSuite (t: Test, newServer: (t: Test) => Promise<TestedServer>, options: ProcessSuiteOptions = {}): void {
  const { processes = 2, conversations = 4, lease = 1500 } = options
  const each = Math.ceil(Number(process.env.QUEUE_MESSAGES ?? options.messages ?? 40) / processes)
  const start = async (t: Test) => {
    const server = await newServer(t)
    await server.start()
    const url = server.urlAt(server.port)
    const storage = server.storageAt(server.port)
    t.teardown(() => storage.close())
    const stored = async (key: string): Promise<StateDocument> => (await storage.read([`test/bot/${key}`]))[`test/bot/${key}`] as StateDocument
    /** A process with one turn, which is at work. */
    const holder = async (strategy: string, milliseconds: number, name: string) => {
      const process = startProcess(t, 'place-holder.js', url, strategy, String(lease), String(milliseconds), name)
      await process.lines.next()
      return { ...process, outcome: async () => JSON.parse((await process.lines.next()).value) }
    }
    return { server, url, storage, stored, holder }
  }

  t.test('of 3 processes × 500 updates of one key none is lost, and none done twice', async (t) => {
    const { url, storage } = await start(t)
    const names = ['p0', 'p1', 'p2']
    const longest = await Promise.all(names.map(async (name) => {
      const { lines, exited } = startProcess(t, 'updates.js', url, name, '500', '4')
      const { value } = await lines.next()
      t.strictSame(await exited, { code: 0, signal: null, errors: '' })
      return Number(value)
    }))
    t.strictSame(await storage.read(['key']), { key: { n: 1500, ...Object.fromEntries(names.map((name) => [name, 500])) } })
    t.comment(`the longest update took ${Math.max(...longest)} ms`)
  })

  t.test(`${processes} processes with ${processes * each} messages in each of ${conversations} conversations: every one is there once, in order, and no two were at work at once`, async (t) => {
    const { url, stored } = await start(t)
    const names = Array.from({ length: processes }, (_, index) => `p${index}`)
    const results = await Promise.all(names.map(async (name) => {
      const { lines, exited } = startProcess(t, 'queueing-bot.js', url, name, String(each), String(conversations))
      const { value } = await lines.next()
      t.strictSame(await exited, { code: 0, signal: null, errors: '' })
      return JSON.parse(value) as { intervals: Array<Array<[begun: number, ended: number]>>, longest: number, leasesLost: number }
    }))
    for (let conversation = 0; conversation < conversations; conversation++) {
      const { texts } = await stored(`conversations/${conversation}`) as { texts: string[] }
      for (const name of names) {
        const own = texts.filter((text) => text.startsWith(`${name}-`))
        t.strictSame(own, own.map((_, number) => `${name}-${number}`), `conversation ${conversation}, ${name}: in order`)
      }
      t.equal(texts.length, processes * each)
      const work = results.flatMap(({ intervals }) => intervals[conversation] as Array<[number, number]>).sort(([a], [b]) => a - b)
      t.ok(work.every(([begun], index) => index === 0 || begun >= (work[index - 1] as [number, number])[1]), 'one at a time')
    }
    t.equal(results.reduce((sum, { leasesLost }) => sum + leasesLost, 0), 0)
    t.comment(`the longest turn took ${Math.max(...results.map(({ longest }) => longest))} ms`)
  })

  t.test('after a process that was killed in its place the next turn goes on within its lease and two seconds', async (t) => {
    const { server, holder } = await start(t)
    for (const strategy of ['queue', 'replace']) {
      const first = await holder(strategy, 60_000, 'first')
      const { app } = await buildFastify(t, { storage: server.storageAt(server.port), concurrency: 'queue' }, () => {})
      const second = app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: 'c' }, () => performance.now())
      await settled(() => app.botasState.stats.waitingTurns === 1, 20_000)
      const killed = performance.now()
      first.child.kill('SIGKILL')
      const took = await second - killed
      t.ok(took < lease + 2000, `${strategy}: ${Math.round(took)} ms`)
    }
  })

  t.test('a handler that takes four times its lease keeps its place', async (t) => {
    const { url, stored, holder } = await start(t)
    const first = await holder('queue', 4 * lease, 'first')
    const second = startProcess(t, 'place-holder.js', url, 'queue', String(lease), '0', 'second')
    t.match(await first.outcome(), { status: 200, leasesLost: 0, warnings: [] })
    t.match([await second.lines.next(), await second.lines.next()], [{ value: 'working' }, { value: /"status":200/ }])
    await second.exited
    t.strictSame((await stored('conversations/c')).names, ['first', 'second'])
  })

  t.test('a process that hung for longer than its lease: with queue it is merged, warned of and counted; with replace refused', async (t) => {
    for (const strategy of ['queue', 'replace']) {
      const { stored, holder } = await start(t)
      const first = await holder(strategy, 1000, 'first')
      first.child.kill('SIGSTOP')
      const second = await holder(strategy, 0, 'second')
      t.match(await second.outcome(), { status: 200 })
      await wait(500)
      first.child.kill('SIGCONT')
      const outcome = await first.outcome()
      if (strategy === 'queue') {
        t.match(outcome, { status: 200, leasesLost: 1, warnings: [/lost its place/] })
        t.match(await stored('conversations/c'), { first: true, second: true })
      } else {
        t.match(outcome, { status: 409, body: { code: 'FST_BOTAS_STATE_REPLACED' } })
        t.strictSame(await stored('conversations/c'), { names: ['second'], second: true })
      }
    }
  })
}
