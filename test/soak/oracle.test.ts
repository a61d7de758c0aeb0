import fc from 'fast-check'
import t, { type Test } from 'tap'
import { Clients } from '../helpers/oracle/clients.js'
import { type Outcome, type Surroundings, play, strays, watchUncaught } from '../helpers/oracle/play.js'
import { type Program, type StorageKind, programs } from '../helpers/oracle/program.js'
import { complaints, needsErrorReply } from '../helpers/oracle/rules.js'
import { promptProperty } from '../helpers/property.js'
import { startRedis } from '../helpers/redis-server.js'

// How many programs are tried; `npm run soak` tries more, on Redis as well. To see a failure again, give the seed, the path
// and the lane that it was reported with.
const RUNS = Number(process.env.ORACLE_RUNS ?? 400)
const { ORACLE_SEED: SEED, ORACLE_PATH: PATH, ORACLE_ONLY: ONLY } = process.env
/** The milliseconds that a program may take, which is played up to three times while others are. */
const LIMIT = 60_000
/** The short run tries the same programs each time: what it finds is new. */
const FIRST_SEED = RUNS <= 400 ? 20261125 : undefined
const storages: StorageKind[] = RUNS >= 2000 ? ['memory', 'file', 'delayed', 'redis'] : ['memory', 'file', 'delayed']
const flushes = ['onResponse', 'onSend'] as const

t.test('an app answers as without the plugin, and a turn is stored if and only if it succeeded', async (t) => {
  t.teardown(watchUncaught())
  const surroundings = { clients: new Clients(), redisUrl: storages.includes('redis') ? (await startRedis(t)).url : '' }
  t.teardown(() => surroundings.clients.close())
  const all = storages.flatMap((storage) => flushes.flatMap((flush) => [1, 2].map((number) => ({ storage, flush, lane: `${storage}, ${flush}, ${number}` }))))
  const lanes = all.filter(({ lane }) => ONLY === undefined || lane === ONLY)
  await Promise.all(lanes.map(async ({ storage, flush, lane }, index) => {
    const seed = SEED ?? (FIRST_SEED && FIRST_SEED + index)
    const result = await fc.check(
      promptProperty(programs(storage, flush), (program) => judge(program, surroundings), LIMIT),
      { numRuns: Math.ceil(RUNS / lanes.length), ...seed !== undefined && { seed: Number(seed) }, ...PATH !== undefined && { path: PATH } })
    report(t, lane, result)
  }))
  t.strictSame(strays, [], 'nothing is left that nobody catches')
})

async function judge (program: Program, surroundings: Surroundings): Promise<void> {
  const bare = await play(program, 'bare', surroundings)
  // Bare Fastify itself mixes up two replies that are on their way, crashes, or waits for ever: there is nothing to compare with.
  fc.pre(!bare.isMixedUp && bare.uncaught.length === 0 && bare.answer?.end !== 'never came')
  const withPlugin = await play(program, 'plugin', surroundings)
  // Nor is there where it mixes up the error of a save with a later reply, or hooks that wait longer with a client that leaves.
  fc.pre(!withPlugin.isMixedUp || (program.broken === 'nothing' && withPlugin.answer !== undefined))
  const nothingSent = needsErrorReply(program, withPlugin) ? await play(program, 'bare, nothing sent', surroundings) : undefined
  const found = complaints(program, bare, withPlugin, nothingSent)
  if (found.length > 0) throw new Error([...found, 'bare:', ...account(bare), 'with the plugin:', ...account(withPlugin), `  stored: ${JSON.stringify(withPlugin.stored)}`].join('\n'))
}

function account ({ answer, next, events }: Outcome): string[] {
  const lines = { answer, ...next && { next } }
  return [
    ...Object.entries(lines).map(([name, value]) => `  ${name}: ${JSON.stringify(value)?.replace(/x{50,}/, 'x…').slice(0, 400)}`),
    ...events.map((event) => `  - ${Object.values(event).join(' ')}`)
  ]
}

function report (t: Test, lane: string, { failed, numRuns, numSkips, ...result }: fc.RunDetails<[Program]>): void {
  if (!failed) {
    t.pass(`${lane}: ${numRuns} programs, and ${numSkips} that bare Fastify mixes up`)
    return
  }
  const error = result.errorInstance instanceof Error ? result.errorInstance.message : ''
  t.comment(`${fc.stringify(result.counterexample?.[0])}\n${error}`)
  t.fail(`${lane}: ORACLE_SEED=${result.seed} ORACLE_PATH=${result.counterexamplePath} ORACLE_ONLY='${lane}'`, { at: null, stack: '' })
}
