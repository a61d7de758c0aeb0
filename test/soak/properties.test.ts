import fc from 'fast-check'
import Fastify from 'fastify'
import { isDeepStrictEqual } from 'node:util'
import t, { type Test } from 'tap'
import botasState, { FileStorage, MemoryStorage, type BotasState, type StateDocument, type Storage, type TurnState } from '../../lib/index.js'
import { RedisStorage } from '../../lib/storage/redis/redis-storage.js'
import { CONVERSATION_KEY } from '../helpers/activities.js'
import { promptProperty } from '../helpers/property.js'
import { startRedis } from '../helpers/redis-server.js'

/** How many programs are tried; `npm run soak` tries more. */
const RUNS = Number(process.env.PROPERTY_RUNS ?? 300)

const identity = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1' }
const keys = ['a', '__proto__']

type Change = (current: unknown) => unknown

/** What `update` is called with. Each is pure and takes whatever it finds. */
const changes: Record<string, Change> = {
  prepend: (current) => ['p', ...Array.isArray(current) ? current : []],
  append: (current) => [...Array.isArray(current) ? current : [], 'x'],
  increment: (current) => (typeof current === 'number' ? current : 0) + 1,
  decrement: (current) => (typeof current === 'number' ? current : 0) - 1,
  wrap: (current) => ({ was: current ?? null }),
  remove: () => undefined,
  keep: (current) => current
}

type Step =
  { turn: number } & (
    { do: 'begin' | 'succeed' | 'fail' | 'clear' | 'deleteState' } |
    { do: 'get' | 'delete' | 'push', key: string } |
    { do: 'set', key: string, value: unknown } |
    { do: 'update', key: string, change: string })

const turn = fc.integer({ min: 0, max: 2 })
const key = fc.constantFrom(...keys)
const value = fc.oneof(fc.integer({ min: 0, max: 2 }), fc.constantFrom(null, 'x', [], ['y'], {}, { was: 1 }, undefined))
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ turn, do: fc.constant('begin' as const) }) },
  { weight: 3, arbitrary: fc.record({ turn, do: fc.constantFrom('succeed' as const, 'succeed' as const, 'fail' as const) }) },
  { weight: 1, arbitrary: fc.record({ turn, do: fc.constantFrom('clear' as const, 'deleteState' as const) }) },
  { weight: 6, arbitrary: fc.record({ turn, do: fc.constantFrom('get' as const, 'delete' as const, 'push' as const, 'push' as const), key }) },
  { weight: 6, arbitrary: fc.record({ turn, do: fc.constant('set' as const), key, value }) },
  { weight: 9, arbitrary: fc.record({ turn, do: fc.constant('update' as const), key, change: fc.constantFrom(...Object.keys(changes)) }) }
)

/** The rules of the README, on plain maps. */
class ModelTurn {
  readonly #loaded: Map<string, unknown>
  readonly #values: Map<string, unknown>
  /** the updates of a key, as long as nothing else changed it */
  readonly #updates = new Map<string, Change[]>()
  /** keys whose value a set, a delete or a change in place has decided, be it the one that was there */
  readonly #decided = new Set<string>()
  #cleared = false

  constructor (stored: Map<string, unknown>) {
    this.#loaded = structuredClone(stored)
    this.#values = structuredClone(stored)
  }

  get (key: string) {
    return this.#values.get(key)
  }

  set (key: string, value: unknown) {
    this.#keep(key, value)
    this.#updates.delete(key)
    this.#decided.add(key)
  }

  push (key: string) {
    const list = this.#values.get(key)
    if (Array.isArray(list)) this.set(key, [...list, 'pushed'])
  }

  update (key: string, change: Change) {
    this.#keep(key, change(this.#values.get(key)))
    if (!this.#decided.has(key)) this.#updates.set(key, [...this.#updates.get(key) ?? [], change])
  }

  clear () {
    this.#loaded.clear()
    this.#values.clear()
    this.#updates.clear()
    this.#decided.clear()
    this.#cleared = true
  }

  flush (stored: Map<string, unknown>) {
    if (this.#cleared) stored.clear()
    for (const key of keys) {
      if (this.#unchanged(key)) continue
      const updates = this.#updates.get(key)
      const value = updates === undefined
        ? this.#values.get(key)
        : updates.reduce((value, change) => change(value), structuredClone(stored.get(key)))
      if (value === undefined) stored.delete(key)
      else stored.set(key, structuredClone(value))
    }
  }

  #keep (key: string, value: unknown) {
    if (value === undefined) this.#values.delete(key)
    else this.#values.set(key, structuredClone(value))
  }

  #unchanged (key: string) {
    return this.#loaded.has(key) === this.#values.has(key) && isDeepStrictEqual(this.#loaded.get(key), this.#values.get(key))
  }
}

interface RunningTurn {
  state: TurnState
  end: (error?: Error) => Promise<void>
}

async function begin ({ run }: BotasState): Promise<RunningTurn> {
  let end: (error?: Error) => void = () => {}
  const ended = new Promise<void>((resolve, reject) => { end = (error) => { error === undefined ? resolve() : reject(error) } })
  let done: Promise<void> = Promise.resolve()
  const state = await new Promise<TurnState>((resolve, reject) => {
    done = run(identity, async (state) => {
      resolve(state)
      await ended
    })
    // A load that fails never calls the work.
    done.catch(reject)
  })
  return {
    state,
    end: async (error) => {
      end(error)
      if (error === undefined) await done
      else await done.catch((reason) => { if (reason !== error) throw reason })
    }
  }
}

/** Runs a program on the plugin and on the model, and compares what each turn sees and what is stored in the end. */
async function check (botasState: BotasState, program: Step[]): Promise<void> {
  const { storage } = botasState
  await storage.delete([CONVERSATION_KEY])
  const stored = new Map<string, unknown>()
  const turns = new Map<number, { real: RunningTurn, model: ModelTurn }>()
  try {
    for (const step of program) {
      if (step.do === 'begin') {
        if (!turns.has(step.turn)) turns.set(step.turn, { real: await begin(botasState), model: new ModelTurn(stored) })
        continue
      }
      const turn = turns.get(step.turn)
      if (turn === undefined) continue
      const { real, model } = turn
      const { conversation } = real.state
      switch (step.do) {
        case 'succeed': case 'fail':
          turns.delete(step.turn)
          await real.end(step.do === 'fail' ? new Error('asked to fail') : undefined)
          if (step.do === 'succeed') model.flush(stored)
          break
        case 'clear': conversation.clear(); model.clear(); break
        case 'deleteState': real.state.deleteConversationState(); model.clear(); break
        case 'get': same(conversation.get(step.key), model.get(step.key)); break
        case 'delete': conversation.delete(step.key); model.set(step.key, undefined); break
        case 'set': conversation.set(step.key, structuredClone(step.value)); model.set(step.key, step.value); break
        case 'push': {
          const list = conversation.get(step.key)
          if (Array.isArray(list)) list.push('pushed')
          model.push(step.key)
          break
        }
        case 'update': conversation.update(step.key, changes[step.change] as Change); model.update(step.key, changes[step.change] as Change)
      }
    }
  } finally {
    // Also after a failure: the next program and the end of the server would wait for turns that are left open.
    await Promise.all([...turns.values()].map(({ real }) => real.end(new Error('asked to fail'))))
  }
  const document = (await storage.read([CONVERSATION_KEY]))[CONVERSATION_KEY] as StateDocument | undefined
  same(new Map(Object.entries(document ?? {})), stored)
}

function same (actual: unknown, expected: unknown): void {
  if (!isDeepStrictEqual(actual, expected)) throw new Error(`expected ${JSON.stringify(printable(expected))}, got ${JSON.stringify(printable(actual))}`)
}

function printable (value: unknown) {
  return value instanceof Map ? [...value] : value
}

const storages: Record<string, [runs: number, open: (t: Test) => Promise<Storage>]> = {
  memory: [RUNS * 20, async () => new MemoryStorage()],
  file: [RUNS / 3, async (t) => new FileStorage(t.testdir())],
  Redis: [RUNS * 3, async (t) => new RedisStorage((await startRedis(t)).url)]
}

for (const [name, [runs, open]] of Object.entries(storages)) {
  t.test(`any program of overlapping turns leaves what the rules say: ${name}`, async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(botasState, { storage: await open(t), flushTimeout: 10_000 })
    // A failure prints the seed and the shortest program that shows it.
    await fc.assert(promptProperty(fc.array(step, { maxLength: 40, size: 'max' }), (program) => check(app.botasState, program)), { numRuns: runs })
    t.pass(`${runs} programs`)
  })
}
