import { setTimeout as wait } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import { type DocumentStore, type Hold, type Holds, documentStoreOf } from '../../../lib/storage/document-store.js'
import { PostgresStorage } from '../../../lib/storage/postgres/postgres-storage.js'
import { RedisStorage } from '../../../lib/storage/redis/redis-storage.js'
import { startPostgres } from '../../helpers/postgres-server.js'
import { startRedis } from '../../helpers/redis-server.js'

const PROGRAMS = Number(process.env.PROPERTY_RUNS ?? 40)
const STRATEGIES = ['queue', 'reject', 'replace'] as const
const call = { signal: new AbortController().signal, retrying () {} }

/** A turn of a program. */
interface ProgramTurn {
  readonly hold: Hold
  state: 'asks' | 'is at work' | 'is over'
}

const redis = await startRedis(t)
const postgres = await startPostgres(t)
const storages = [new RedisStorage(redis.url), new PostgresStorage(postgres.url)]
for (const storage of storages) t.teardown(() => storage.close())
const stores = storages.map((storage) => documentStoreOf(storage)) as Array<DocumentStore & { holds: Holds }>

/** What all storages say, which has to be the same. */
async function asked<Answer> (ask: (store: DocumentStore & { holds: Holds }) => Promise<Answer>): Promise<Answer[]> {
  const answers = await Promise.all(stores.map(ask))
  // A lease of a millisecond is over with the next step, by whichever clock.
  await wait(3)
  return answers
}

/** Plays a program, which is what it chooses with each step. Gives what was told by the first storage, and by the other one where that differs. */
async function play (key: string, choices: number[]): Promise<{ story: string[], others: string | undefined }> {
  const choice = choices.values()
  const pick = <Option>(options: readonly Option[]): Option => options[(choice.next().value ?? 0) % options.length] as Option
  const isTrue = (share: number): boolean => (choice.next().value ?? 0) % 100 < 100 * share
  const turns: Record<string, ProgramTurn[]> = { a: [], b: [], c: [] }
  const openOf = (process: string): ProgramTurn[] => (turns[process] as ProgramTurn[]).filter(({ state }) => state !== 'is over')
  const story: string[] = []
  let arrived = 0

  const begin = (process: string): ProgramTurn | undefined => {
    const strategy = pick(STRATEGIES)
    // The turns of one process wait for each other before they ask, unless one replaces the other.
    if (openOf(process).some(({ state, hold }) => state === 'asks' || strategy !== 'replace' || hold.place?.isReplaceable === false)) return undefined
    const number = ++arrived
    const turn: ProgramTurn = {
      state: 'asks',
      hold: {
        key,
        holder: `${process}-${number}`,
        origin: `${process}-`,
        arrived: number,
        lease: isTrue(0.2) ? 1 : 60_000,
        place: { strategy, isReplaceable: strategy === 'replace' && isTrue(0.8) },
        activity: isTrue(0.3) ? { id: pick(['x', 'y']), ttl: 60 } : undefined
      }
    }
    turns[process]?.push(turn)
    return turn
  }

  const step = async (turn: ProgramTurn): Promise<unknown[]> => {
    const { hold } = turn
    if (turn.state === 'asks') {
      const entries = await asked(({ holds }) => holds.enter(hold, [], call))
      const outcome = entries[0]?.outcome
      if (outcome === 'entered') turn.state = 'is at work'
      else if (outcome !== 'waiting' && outcome !== 'running') turn.state = 'is over'
      return entries
    }
    const next = pick(['renew', 'save', 'leave'] as const)
    if (next === 'renew') return asked(({ holds }) => holds.renew(hold, call))
    turn.state = 'is over'
    if (next === 'leave') return asked(({ holds }) => holds.leave(hold, call))
    const reply = hold.activity === undefined ? undefined : `of ${hold.holder}`
    return asked(async (store) => {
      const [loaded] = await store.load([key], call)
      const change = { key, loaded, forgets: false, isSaved: false, edit: () => ({ clears: false, members: new Map([[hold.holder, 'true']]) }) }
      return store.save([change], call, { hold, reply, leaves: true })
    })
  }

  const differing = async (title: string, answers: Promise<unknown[]>): Promise<string | undefined> => {
    const [one, other] = (await answers).map((answer) => JSON.stringify(answer))
    story.push(`${title}: ${one}`)
    return one === other ? undefined : other
  }

  for (let index = 0; index < choices.length / 4; index++) {
    const process = pick(['a', 'b', 'c'])
    const turn = openOf(process).length === 0 || isTrue(0.2) ? begin(process) ?? openOf(process)[0] : pick(openOf(process))
    const others = turn && await differing(`${turn.hold.holder} ${turn.state}`, step(turn))
    if (others !== undefined) return { story, others }
  }
  const stored = asked(async (store) => (await store.load([key], call)).map((document) => [...document?.names() ?? []]))
  return { others: await differing('stored', stored), story }
}

t.test('the script of Redis and the rows of a driver give every turn the same place', async (t) => {
  let programs = 0
  const steps = fc.array(fc.nat(999), { minLength: 40, maxLength: 160 })
  const result = await fc.check(fc.asyncProperty(steps, async (choices) => {
    const { story, others } = await play(`test/bot/conversations/${programs++}`, choices)
    if (others !== undefined) throw new Error(`${story.join('\n')}\nand of the other one: ${others}`)
  }), { numRuns: PROGRAMS, interruptAfterTimeLimit: 300_000 })
  t.equal(result.errorInstance, null, `${programs} programs`)
  if (result.errorInstance !== null) t.comment(String(result.errorInstance))
})
