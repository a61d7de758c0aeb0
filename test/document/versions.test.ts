import { setTimeout as wait } from 'node:timers/promises'
import fc from 'fast-check'
import type { FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { z } from 'zod'
import { type StateDocument, type TurnState, type Upgrade, MemoryStorage } from '../../lib/index.js'
import { RedisStorage } from '../../lib/storage/redis/redis-storage.js'
import { CONVERSATION_KEY, USER_KEY } from '../helpers/activities.js'
import { buildFastify } from '../helpers/build-fastify.js'
import { type Orders, filesOf, startObedient } from '../helpers/obedient-bot.js'
import { promptProperty } from '../helpers/property.js'
import { wholeDocuments } from '../helpers/recording-storage.js'
import { startRedis } from '../helpers/redis-server.js'
import { slowStorage } from '../helpers/slow-storage.js'

const RUNS = Number(process.env.VERSIONS_RUNS ?? 100)

const USER = { channelId: 'test', botId: 'bot', userId: 'user-1' }
const BOTH = { ...USER, conversationId: 'conversation-1' }

/** The second version has two names in place of one, the third one a list of visits in place of their number. */
const splitName: Upgrade = ({ name = '', ...rest }) => {
  const [first, last] = String(name).split(' ')
  return { ...rest, first, last }
}
const listVisits: Upgrade = (document) => {
  document.visits = Array.from({ length: Number(document.visits ?? 0) }, (_, n) => n + 1)
  return document
}
const ALL: Record<number, Upgrade> = { 2: splitName, 3: listVisits }

/** The version of users' documents that code of this age knows. */
function versionOf (current: number) {
  return { key: 'schemaVersion', upgrades: Object.fromEntries(Object.entries(ALL).slice(0, current - 1)) }
}

function documentsOf (current: number) {
  return { user: { version: versionOf(current) } }
}

t.test('a turn finds an old document upgraded, step by step, and one that only reads stores nothing', async (t) => {
  const { storage, write, text } = filesOf(t)
  const old = '{ "name": "Ada Lovelace", "visits": 2 }'
  await write(USER_KEY, old)
  const { app } = await startObedient(t, documentsOf(3), { storage })
  await app.botasState.run(USER, ({ user }) => {
    t.strictSame(user.toJSON(), { visits: [1, 2], first: 'Ada', last: 'Lovelace', schemaVersion: 3 })
    t.strictSame([user.has('name'), user.has('first'), user.get('last'), user.keys().length], [false, true, 'Lovelace', 4])
  })
  t.equal(await text(USER_KEY), old)
})

t.test('an upgrade is stored with the first change, with its version, and is not run again', async (t) => {
  const { storage, write, text } = filesOf(t)
  await write(USER_KEY, '{"name":"Ada Lovelace","visits":2}')
  let upgrades = 0
  const counted: Upgrade = (document) => { upgrades++; return splitName(document) }
  const { say } = await startObedient(t, { user: { version: { key: 'v', upgrades: { 2: counted } } } }, { storage })
  t.match(await say({ user: { set: { last: 'King' } } }), { status: 200 })
  t.strictSame(JSON.parse(await text(USER_KEY) ?? ''), { visits: 2, first: 'Ada', last: 'King', v: 2 })
  upgrades = 0
  t.match(await say({ user: { get: 'last' } }), { body: { user: 'King' } })
  t.match(await say({ user: { set: { last: 'Lovelace' } } }), { status: 200 })
  t.equal(upgrades, 0)
})

t.test('an upgrade begins at the version that a document has', async (t) => {
  const { storage, write } = filesOf(t)
  await write(USER_KEY, '{"schemaVersion":2.0,"name":"kept","first":"Ada","visits":1}')
  const { app } = await startObedient(t, documentsOf(3), { storage })
  await app.botasState.run(USER, ({ user }) => {
    t.strictSame(user.toJSON(), { schemaVersion: 3, name: 'kept', first: 'Ada', visits: [1] })
  })
})

t.test('members that an upgrade leaves alone keep their very text', async (t) => {
  const { storage, write, text } = filesOf(t)
  await write(USER_KEY, '{"score":1.0,"id":9007199254740993,"deep":{"n":[1e2]},"name":"Ada Lovelace","old":1}')
  const { say } = await startObedient(t, documentsOf(2), { storage })
  t.match(await say({ user: { delete: 'old' } }), { status: 200 })
  t.equal(await text(USER_KEY), '{"score":1.0,"id":9007199254740993,"deep":{"n":[1e2]},"first":"Ada","last":"Lovelace","schemaVersion":2}')
})

t.test('an upgrade may change what it is given in place, and remove members', async (t) => {
  const { storage, write, text } = filesOf(t)
  await write(USER_KEY, '{"list":[1.0],"gone":1,"undone":1,"at":0}')
  const upgrade: Upgrade = (document) => {
    const { list } = document as { list: number[] }
    list.push(2)
    delete document.gone
    document.undone = undefined
    document.at = new Date(0)
    return document
  }
  const { say } = await startObedient(t, { user: { version: { key: 'v', upgrades: { 2: upgrade } } } }, { storage })
  t.match(await say({ user: { get: 'at' } }), { body: { user: '1970-01-01T00:00:00.000Z' } })
  t.match(await say({ user: { set: { n: 1 } } }), { status: 200 })
  t.equal(await text(USER_KEY), '{"list":[1,2],"at":"1970-01-01T00:00:00.000Z","v":2,"n":1}')
})

/** As `produce` of immer gives it. */
function deeplyFrozen<Value> (value: Value): Value {
  for (const member of Object.values(value as object)) if (typeof member === 'object' && member !== null) deeplyFrozen(member)
  return Object.freeze(value)
}

t.test('an upgrade may return what is frozen, and the next one change it', async (t) => {
  const upgrades: Record<number, Upgrade> = {
    2: (document) => Object.freeze(document),
    3: (document) => {
      (document as { list: Array<{ n: number }> }).list[0]!.n = 3
      return deeplyFrozen({ ...document, added: { to: [1] } })
    },
    4: (document) => {
      const { list, added } = document as { list: Array<{ n: number }>, added: { to: number[] } }
      list.push({ n: 4 })
      added.to.push(2)
      return deeplyFrozen(document)
    }
  }
  const { storage, write, text } = filesOf(t)
  await write(USER_KEY, '{"score":1.0,"list":[{"n":1}],"same":{"id":9007199254740993}}')
  const { say } = await startObedient(t, { user: { version: { key: 'v', upgrades } } }, { storage })
  t.match(await say({ user: { get: 'list' } }), { body: { user: [{ n: 3 }, { n: 4 }] } })
  t.match(await say({ user: { set: { n: 1 } } }), { status: 200 })
  t.equal(await text(USER_KEY), '{"score":1.0,"list":[{"n":3},{"n":4}],"same":{"id":9007199254740993},"added":{"to":[1,2]},"v":4,"n":1}')
})

t.test('members keep their order where an upgrade leaves them, also those with names of array indexes', async (t) => {
  const { storage, write, text } = filesOf(t)
  await write(USER_KEY, '{"b":1.0,"10":1e0,"2":{"y":1.0,"1":2},"gone":1,"a":"\\u0041"}')
  const upgrade: Upgrade = ({ gone, ...rest }) => ({ added: gone, ...rest })
  const { say } = await startObedient(t, { user: { version: { key: 'v', upgrades: { 2: upgrade, 3: (document) => document } } } }, { storage })
  t.match(await say({ user: { set: { n: 1 } } }), { status: 200 })
  t.equal(await text(USER_KEY), '{"b":1.0,"10":1e0,"2":{"y":1.0,"1":2},"a":"\\u0041","added":1,"v":3,"n":1}')
})

t.test('an upgrade may leave what JSON makes something of, holes, and a member called __proto__', async (t) => {
  const { storage, write, text } = filesOf(t)
  await write(USER_KEY, '{"__proto__":{"x":1.0},"deep":{"__proto__":1.0}}')
  const upgrade: Upgrade = (document) => {
    const list = new Array(3)
    list[1] = new Date(0)
    return { ...document, list, buffer: Buffer.from('x'), own: { toJSON: () => 'mine' }, once: { get n () { return 1 } } }
  }
  const { say } = await startObedient(t, { user: { version: { key: 'v', upgrades: { 2: upgrade } } } }, { storage })
  t.match(await say({ user: { set: { n: 1 } } }), { status: 200 })
  t.equal(await text(USER_KEY), '{"__proto__":{"x":1.0},"deep":{"__proto__":1.0},"list":[null,"1970-01-01T00:00:00.000Z",null],"buffer":"eA==","own":"mine","once":{"n":1},"v":2,"n":1}')
})

t.test('a document that is nested deep can be upgraded', async (t) => {
  const { storage, write, text } = filesOf(t)
  const deep = `${'{"a":['.repeat(500)}1.0${']}'.repeat(500)}`
  await write(USER_KEY, `{"deep":${deep}}`)
  const { say } = await startObedient(t, { user: { version: { key: 'v', upgrades: { 2: (document) => document, 3: (document) => document } } } }, { storage })
  t.match(await say({ user: { set: { n: 1 } } }), { status: 200 })
  t.equal(await text(USER_KEY), `{"deep":${deep},"v":3,"n":1}`)
})

t.test('a new document, and one that is begun anew, get the current version', async (t) => {
  const { storage, write, text } = filesOf(t)
  const { say } = await startObedient(t, documentsOf(3), { storage })
  await say({ user: { set: { first: 'Ada' } }, conversation: { set: { n: 1 } } })
  t.equal(await text(USER_KEY), '{"first":"Ada","schemaVersion":3}')
  t.equal(await text(CONVERSATION_KEY), '{"n":1}', 'a scope without rules has no version')
  for (const stored of ['{"name":"Ada"}', '{"schemaVersion":3,"first":"Ada"}', '{"schemaVersion":"?"}', '{"schemaVersion":', '7']) {
    await write(USER_KEY, stored)
    t.match(await say({ user: { clear: true, set: { first: 'Grace' } } }), { status: 200 })
    t.equal(await text(USER_KEY), '{"first":"Grace","schemaVersion":3}', stored)
  }
})

t.test('a document of which only the version would be left is removed', async (t) => {
  const { storage, write, text } = filesOf(t)
  const { say } = await startObedient(t, documentsOf(3), { storage })
  await write(USER_KEY, '{"first":"Ada","schemaVersion":3}')
  t.match(await say({ user: { delete: 'first' } }), { status: 200 })
  t.equal(await text(USER_KEY), undefined)
  t.match(await say({ user: { delete: 'first' } }), { status: 200 })
  t.match(await say({ user: { clear: true } }), { status: 200 })
  t.equal(await text(USER_KEY), undefined)
})

t.test('a newer document fails every turn that touches it, and stays byte for byte', async (t) => {
  const { storage, write, text } = filesOf(t)
  const newer = '{ "schemaVersion": 3, "visits": [1.0], "secret": "hunter2" }'
  await write(USER_KEY, newer)
  const { say, told } = await startObedient(t, documentsOf(2), { storage })
  const orders: Orders[] = [{ get: 'visits' }, { get: 'other' }, { set: { other: 1 } }, { delete: 'other' }, { clear: true, set: { other: 1 } }]
  for (const order of orders) {
    const reply = await say({ user: order, conversation: { set: { n: 1 } } })
    t.match(reply, { status: 500, body: { code: 'FST_BOTAS_STATE_NEWER_DOCUMENT', message: /users\/user-1" has version 3, and this code knows version 2 at most/ } })
    t.notMatch(told(reply), 'hunter')
  }
  t.equal(await text(USER_KEY), newer)
  t.equal(await text(CONVERSATION_KEY), undefined)
  t.match(await say({ conversation: { set: { n: 1 } } }), { status: 200 }, 'the other scope works')
})

t.test('a newer document can be removed', async (t) => {
  const { storage, write, text } = filesOf(t)
  const { say, app } = await startObedient(t, documentsOf(2), { storage })
  await write(USER_KEY, '{"schemaVersion":3}')
  t.match(await say({ user: { clear: true } }), { status: 200 })
  t.equal(await text(USER_KEY), undefined)
  await write(USER_KEY, '{"schemaVersion":3}')
  await app.botasState.run(USER, (state) => state.deleteUserState())
  t.equal(await text(USER_KEY), undefined)
})

t.test('a handler that changes the version itself is refused', async (t) => {
  const { storage, write, text } = filesOf(t)
  const { say } = await startObedient(t, documentsOf(2), { storage })
  const refused = { status: 500, body: { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT', message: /would get another version: the handler changed its member "schemaVersion", which only upgrades may;/ } }
  t.match(await say({ user: { set: { schemaVersion: 3 } } }), refused)
  t.equal(await text(USER_KEY), undefined)
  const stored = '{"first":"Ada","schemaVersion":2}'
  await write(USER_KEY, stored)
  for (const schemaVersion of [1, 3, '2', null]) t.match(await say({ user: { set: { schemaVersion } } }), refused)
  t.match(await say({ user: { delete: 'schemaVersion' } }), refused)
  t.match(await say({ user: { clear: true, set: { schemaVersion: 1, first: 'Grace' } } }), refused)
  t.equal(await text(USER_KEY), stored)
  t.match(await say({ user: { set: { schemaVersion: 2, first: 'Grace' } } }), { status: 200 }, 'the version that it has is no change')
})

const failing: Array<[title: string, upgrade: unknown, problem: RegExp]> = [
  ['throws an error', ({ secret }: StateDocument) => { throw new RangeError(`no ${secret}`) }, /the upgrade to version 2 threw a RangeError;/],
  ['throws an error named by a value', ({ secret }: StateDocument) => { throw Object.assign(new Error(String(secret)), { name: secret }) }, /the upgrade to version 2 threw an error;/],
  ['throws a text', ({ secret }: StateDocument) => { throw secret }, /the upgrade to version 2 threw a string;/],
  ['returns a promise', (document: StateDocument) => Promise.resolve(document), /the upgrade to version 2 returned a promise: it must be synchronous;/],
  ['returns a promise that is rejected', ({ secret }: StateDocument) => Promise.reject(new Error(String(secret))), /returned a promise: it must be synchronous;/],
  ['returns nothing', () => {}, /returned undefined in place of the document;/],
  ['returns a member', ({ secret }: StateDocument) => secret, /returned a string in place of the document;/],
  ['returns a list', ({ secret }: StateDocument) => [secret], /returned an array in place of the document;/],
  ['returns a Map', (document: StateDocument) => new Map(Object.entries(document)), /returned an instance of a class in place of the document;/],
  ['returns a document with a getter that throws', ({ secret }: StateDocument) => ({ get name () { throw new Error(String(secret)) } }), /the upgrade to version 2 threw an error;/],
  ['returns a document with such a getter deep within', ({ secret }: StateDocument) => ({ list: [{ get name () { throw new TypeError(String(secret)) } }] }), /the upgrade to version 2 threw a TypeError;/],
  ['makes a member that is in itself', ({ secret }: StateDocument) => { const n: unknown[] = [secret]; n.push(n); return { n } }, /could not be upgraded: "n" in the upgraded state cannot be stored as JSON: it holds a cycle;/],
  ['returns null', () => null, /returned null in place of the document;/],
  ['makes a member that JSON cannot hold', ({ secret }: StateDocument) => ({ secret, n: 1n }), /could not be upgraded: "n" in the upgraded state cannot be stored as JSON: it holds a BigInt;/],
  ['makes a member that is no value', ({ secret }: StateDocument) => ({ secret, n: new Map([[secret, secret]]) }), /could not be upgraded: "n" in the upgraded state.*a Map;/]
]
for (const [title, upgrade, problem] of failing) {
  t.test(`an upgrade that ${title} fails the turn that touches the document, which stays as it is and is told by no value`, async (t) => {
    const { storage, write, text } = filesOf(t)
    const old = '{ "secret": "hunter2" }'
    await write(USER_KEY, old)
    const { say, told } = await startObedient(t, { user: { version: { key: 'v', upgrades: { 2: upgrade as Upgrade, 3: (document) => document } } } }, { storage })
    for (const order of [{ get: 'secret' }, { set: { n: 1 } }]) {
      const reply = await say({ user: order, conversation: { set: { n: 1 } } })
      t.match(reply, { status: 500, body: { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT', message: problem } })
      t.notMatch(told(reply), 'hunter')
    }
    t.strictSame([await text(USER_KEY), await text(CONVERSATION_KEY)], [old, undefined])
    t.match(await say({ user: { clear: true } }), { status: 200 })
    t.equal(await text(USER_KEY), undefined)
  })
}

t.test('a document whose version is no whole number fails the turn that touches it, and can be cleared', async (t) => {
  const { storage, write, text } = filesOf(t)
  const { say } = await startObedient(t, documentsOf(2), { storage })
  for (const version of ['"2"', '0', '-1', '1.5', 'null', '{}', '1e300', 'true']) {
    const stored = `{"schemaVersion":${version},"n":1}`
    await write(USER_KEY, stored)
    t.match(await say({ user: { set: { n: 2 } } }), {
      status: 500, body: { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT', message: /has a version that is no whole number from 1, its member "schemaVersion";/ }
    })
    t.equal(await text(USER_KEY), stored)
    t.match(await say({ user: { clear: true } }), { status: 200 })
    t.equal(await text(USER_KEY), undefined)
  }
})

t.test('the schema is that of the current version: checked after the upgrades, and before a save with the version', async (t) => {
  const { storage, write, text } = filesOf(t)
  const schema = z.strictObject({ first: z.string(), last: z.string(), schemaVersion: z.literal(2) })
  const { say } = await startObedient(t, { user: { schema, version: versionOf(2) } }, { storage })
  await write(USER_KEY, '{"name":"Ada Lovelace"}')
  t.match(await say({ user: { set: { last: 'King' } } }), { status: 200 })
  t.equal(await text(USER_KEY), '{"first":"Ada","last":"King","schemaVersion":2}')
  await write(USER_KEY, '{"name":"Ada"}')
  t.match(await say({ user: { get: 'first' } }), { status: 500, body: { message: /does not fit its schema: last: Invalid input/ } })
  t.equal(await text(USER_KEY), '{"name":"Ada"}')
})

t.test('an upgrade works on every kind of storage', async (t) => {
  const slow = slowStorage()
  const storages = { memory: new MemoryStorage(), 'one with update': slow, 'one of whole documents': wholeDocuments(slowStorage()) }
  for (const [title, storage] of Object.entries(storages)) {
    await storage.write({ [USER_KEY]: { name: 'Ada Lovelace', visits: 1 } })
    const { say } = await startObedient(t, documentsOf(3), { storage })
    t.match(await say({ user: { set: { last: 'King' } } }), { status: 200 }, title)
    t.strictSame(await storage.read([USER_KEY]), { [USER_KEY]: { first: 'Ada', last: 'King', visits: [1], schemaVersion: 3 } }, title)
  }
})

t.test('two turns that both upgraded a document store one upgrade, and both changes', async (t) => {
  for (const storage of [new MemoryStorage(), slowStorage(), filesOf(t).storage]) {
    await storage.write({ [USER_KEY]: { name: 'Ada Lovelace', visits: 1 } })
    const { app } = await startObedient(t, documentsOf(3), { storage })
    const visit = (visits: number[] = []) => [...visits, visits.length + 1]
    await app.botasState.run(USER, async ({ user }) => {
      user.update<number[]>('visits', visit)
      await app.botasState.run(USER, ({ user }) => { user.update<number[]>('visits', visit); user.set('last', 'King') })
    })
    t.strictSame(await storage.read([USER_KEY]), { [USER_KEY]: { first: 'Ada', last: 'King', visits: [1, 2, 3], schemaVersion: 3 } })
  }
})

t.test('a turn of old code that overlaps with an upgrade fails, and the upgraded document stays', async (t) => {
  for (const storage of [new MemoryStorage(), slowStorage(), filesOf(t).storage]) {
    await storage.write({ [USER_KEY]: { name: 'Ada Lovelace', visits: 1 } })
    const { app: old } = await startObedient(t, documentsOf(2), { storage })
    const { app: now } = await startObedient(t, documentsOf(3), { storage })
    for (const work of [
      ({ user }: TurnState) => user.set('n', 1),
      ({ user }: TurnState) => { user.clear(); user.set('n', 1) },
      ({ user, conversation }: TurnState) => { user.update('n', () => 1); if (storage instanceof MemoryStorage) conversation.set('n', 1) },
      ({ user }: TurnState) => { for (const name of user.keys()) if (name !== 'schemaVersion') user.delete(name) }
    ]) {
      await storage.write({ [USER_KEY]: { name: 'Ada Lovelace', visits: 1 } })
      await t.rejects(old.botasState.run(BOTH, async (state) => {
        work(state)
        await now.botasState.run(USER, ({ user }) => user.set('last', 'King'))
      }), { code: 'FST_BOTAS_STATE_NEWER_DOCUMENT' })
      t.strictSame(await storage.read([USER_KEY, CONVERSATION_KEY]), { [USER_KEY]: { first: 'Ada', last: 'King', visits: [1], schemaVersion: 3 } })
    }
  }
})

t.test('a turn of old code that clears a document removes it also where it was upgraded meanwhile', async (t) => {
  for (const storage of [new MemoryStorage(), slowStorage(), filesOf(t).storage]) {
    await storage.write({ [USER_KEY]: { name: 'Ada Lovelace', visits: 1 } })
    const { app: old } = await startObedient(t, documentsOf(2), { storage })
    const { app: now } = await startObedient(t, documentsOf(3), { storage })
    await old.botasState.run(USER, async (state) => {
      state.deleteUserState()
      await now.botasState.run(USER, ({ user }) => user.set('last', 'King'))
    })
    t.strictSame(await storage.read([USER_KEY]), {})
  }
})

t.test('a turn that overlaps with an old one upgrades what that stored', async (t) => {
  const storage = new MemoryStorage()
  await storage.write({ [USER_KEY]: { name: 'Ada Lovelace', visits: 1 } })
  const { app: old } = await startObedient(t, documentsOf(1), { storage })
  const { app: now } = await startObedient(t, documentsOf(3), { storage })
  await now.botasState.run(USER, async ({ user }) => {
    user.update<number[]>('visits', (visits = []) => [...visits, 100])
    await old.botasState.run(USER, ({ user }) => { user.set('visits', 3); user.set('name', 'Grace Hopper') })
  })
  t.strictSame(await storage.read([USER_KEY]), { [USER_KEY]: { first: 'Grace', last: 'Hopper', visits: [1, 2, 3, 100], schemaVersion: 3 } })
})

/** One step of a random chain. */
interface Step {
  kind: 'rename' | 'split' | 'add' | 'remove' | 'wrap' | 'count'
  from: string
  to: string
  isInPlace: boolean
}

/** Every upgrade leaves a trace, by which one that is applied twice is seen. */
function applied ({ kind, from, to, isInPlace }: Step, version: number): Upgrade {
  return (given) => {
    const document = isInPlace ? given : { ...given }
    const value = Object.hasOwn(document, from) ? document[from] : undefined
    if (kind === 'add') put(document, from, value ?? `added by ${version}`)
    else if (value !== undefined) {
      const text = JSON.stringify(value)
      if (kind === 'rename' || kind === 'remove') delete document[from]
      if (kind === 'rename') put(document, to, value)
      if (kind === 'split') { put(document, from, text.slice(0, 2)); put(document, to, text.slice(2)) }
      if (kind === 'wrap') put(document, from, { was: value })
      if (kind === 'count') put(document, from, text.length)
    }
    document.trace = [...document.trace as number[] | undefined ?? [], version]
    return document
  }
}

/** Also a member called `__proto__`. */
function put (document: StateDocument, name: string, value: unknown): void {
  Object.defineProperty(document, name, { value, enumerable: true, configurable: true, writable: true })
}

type Act = { kind: 'read' } | { kind: 'clear' } | { kind: 'set' | 'clear and set' | 'delete', name: string, value: unknown }
interface Turn { code: number, act: Act }

const names = fc.constantFrom('a', 'b', 'c', '__proto__', '1')
const values = fc.oneof(fc.string({ maxLength: 3 }), fc.integer(), fc.constantFrom<unknown[]>(null, true, [], {}, { deep: [1] }))
const steps = fc.record<Step>({
  kind: fc.constantFrom('rename', 'split', 'add', 'remove', 'wrap', 'count'), from: names, to: names, isInPlace: fc.boolean()
})
const acts: fc.Arbitrary<Act> = fc.oneof(
  fc.constant<Act>({ kind: 'read' }),
  fc.constant<Act>({ kind: 'clear' }),
  { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom('set', 'set', 'set', 'clear and set', 'delete'), name: names, value: values }) })
const chains = fc.array(steps, { maxLength: 4 }).chain((chain) => fc.record({
  chain: fc.constant(chain),
  first: fc.dictionary(names, values, { minKeys: 1, noNullPrototype: true }),
  turns: fc.array(fc.record<Turn>({ code: fc.integer({ min: 1, max: chain.length + 1 }), act: acts }), { maxLength: 8 })
}))

/** What plain JavaScript makes of a stored document in a turn of code of some age. */
function model (stored: StateDocument | undefined, chain: Step[], { code, act }: Turn): { isRefused?: true, seen?: StateDocument | undefined, next: StateDocument | undefined } {
  if (act.kind === 'clear') return { next: undefined }
  const version = stored === undefined ? code : stored.v as number | undefined ?? 1
  if (version > code) return { isRefused: true, next: stored }
  if (act.kind === 'clear and set') return { next: own([[act.name, act.value], ['v', code]]) }
  let seen = stored && structuredClone(stored)
  for (let next = version + 1; seen !== undefined && next <= code; next++) seen = applied(chain[next - 2] as Step, next)(structuredClone(seen))
  if (seen !== undefined && version < code) seen = own([...Object.entries(seen), ['v', code]])
  if (act.kind === 'read') return { seen, next: stored }
  const before = JSON.stringify(seen && Object.hasOwn(seen, act.name) ? seen[act.name] : undefined)
  if (before === (act.kind === 'set' ? JSON.stringify(act.value) : undefined)) return { next: stored }
  const others = Object.entries(seen ?? {}).filter(([name]) => name !== act.name && name !== 'v')
  const members: Array<[string, unknown]> = act.kind === 'set' ? [...others, [act.name, act.value]] : others
  return { next: members.length === 0 ? undefined : own([...members, ['v', code]]) }
}

function own (members: Array<[string, unknown]>): StateDocument {
  return Object.fromEntries(members)
}

function sorted (document: StateDocument | undefined): string | undefined {
  return document && JSON.stringify(Object.entries(document).toSorted(([a], [b]) => a < b ? -1 : 1))
}

function perform (user: TurnState['user'], act: Act): StateDocument | undefined {
  switch (act.kind) {
    case 'read': return user.toJSON()
    case 'clear': user.clear(); break
    case 'clear and set': user.clear(); user.set(act.name, act.value); break
    case 'set': user.set(act.name, act.value); break
    case 'delete': user.delete(act.name)
  }
}

t.test(`${RUNS} random chains of versions, with rollbacks, do what plain JavaScript does`, async (t) => {
  await fc.assert(promptProperty(chains, async ({ chain, first, turns }) => {
    const storage = new MemoryStorage()
    await storage.write({ [USER_KEY]: first })
    const apps: FastifyInstance[] = []
    for (let code = 1; code <= chain.length + 1; code++) {
      const upgrades = Object.fromEntries(chain.slice(0, code - 1).map((step, index) => [index + 2, applied(step, index + 2)]))
      apps.push((await buildFastify(t, { storage, documents: { user: { version: { key: 'v', upgrades } } } }, () => {})).app)
    }
    let stored: StateDocument | undefined = first
    for (const turn of turns) {
      const expected = model(stored, chain, turn)
      const outcome = await (apps[turn.code - 1] as FastifyInstance).botasState.run(USER, ({ user }) => perform(user, turn.act))
        .then((seen) => ({ seen }), (error: { code: string }) => ({ refused: error.code }))
      if (expected.isRefused) assertSame(outcome, { refused: 'FST_BOTAS_STATE_NEWER_DOCUMENT' })
      else if (turn.act.kind === 'read') assertSame(sorted((outcome as { seen: StateDocument }).seen), sorted(expected.seen ?? {}))
      else assertSame(outcome, { seen: undefined })
      stored = expected.next
      assertSame(sorted((await storage.read([USER_KEY]))[USER_KEY]), sorted(stored))
    }
    for (const app of apps) await app.close()
  }), { numRuns: RUNS })
})

function assertSame (actual: unknown, expected: unknown): void {
  const [one, other] = [actual, expected].map((value) => JSON.stringify(value))
  if (one !== other) throw new Error(`${one} instead of ${other}`)
}

/** Three deployments of one bot: the second one calls the number of its items a total, the third one has objects for items. */
const upgrades: Record<number, Upgrade> = {
  2: ({ count, trace = [], ...rest }) => ({ ...rest, total: count, trace: [...trace as number[], 2] }),
  3: ({ items = [], trace = [], ...rest }) => ({ ...rest, entries: (items as string[]).map((id) => ({ id })), trace: [...trace as number[], 3] })
}

function add (code: number, { conversation }: TurnState, id: string): void {
  conversation.update<number>(code === 1 ? 'count' : 'total', (n = 0) => n + 1)
  if (code < 3) conversation.update<string[]>('items', (items = []) => [...items, id])
  else conversation.update<Array<{ id: string }>>('entries', (entries = []) => [...entries, { id }])
  conversation.set('last', id)
}

/** What every document of these has to be like, whoever stored it. */
function assertWhole (text: string): { version: number, ids: string[] } {
  const document = JSON.parse(text)
  const { schemaVersion: version = 1, trace = [], items, entries, count, total } = document
  const born = document.born as number
  const expected = [2, 3].filter((step) => step > born && step <= version)
  assertSame(trace, expected)
  const ids: string[] = version < 3 ? items : entries.map(({ id }: { id: string }) => id)
  assertSame(version === 1 ? count : total, ids.length)
  assertSame([items === undefined, entries === undefined, count === undefined, total === undefined], [version === 3, version < 3, version > 1, version === 1])
  return { version, ids }
}

const phases = fc.array(fc.array(fc.record({
  code: fc.integer({ min: 1, max: 3 }),
  before: fc.integer({ min: 0, max: 4 }),
  during: fc.integer({ min: 0, max: 6 }),
  isRead: fc.boolean()
}), { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 4 })

async function deployments (t: Test, url: string): Promise<FastifyInstance[]> {
  return Promise.all([1, 2, 3].map(async (code) => {
    const version = { key: 'schemaVersion', upgrades: Object.fromEntries(Object.entries(upgrades).slice(0, code - 1)) }
    return (await buildFastify(t, { storage: new RedisStorage(url), documents: { conversation: { version } } }, () => {})).app
  }))
}

t.test(`${RUNS} random mixes of old and new code on one Redis: no version goes back, no upgrade runs twice, no acknowledged change is lost`, async (t) => {
  const { url } = await startRedis(t)
  const apps = await deployments(t, url)
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  let runs = 0
  let refusals = 0
  let overlaps = 0
  await fc.assert(promptProperty(phases, async (phases) => {
    const conversationId = `c${runs++}`
    const identity = { channelId: 'test', botId: 'bot', conversationId }
    const key = `botas:test/bot/conversations/${conversationId}`
    await client.set(key, '{"born":1,"items":[],"count":0,"score":1.0}')
    const acknowledged: string[] = []
    let highest = 1
    const watch = { isOver: false }
    const look = async (): Promise<string> => {
      const text = await client.get(key) ?? ''
      const { version } = assertWhole(text)
      if (version < highest) throw new Error(`version ${version} after ${highest}`)
      highest = version
      if (!text.includes('"score":1.0')) throw new Error(`an untouched member was rewritten: ${text}`)
      return text
    }
    const watching = (async () => { while (!watch.isOver) await look() })()
    watching.catch(() => {})
    for (const [round, turns] of phases.entries()) {
      await Promise.all(turns.map(async ({ code, before, during, isRead }, index) => {
        const id = `${round}/${index}`
        await wait(before)
        let loaded: number | undefined
        try {
          await (apps[code - 1] as FastifyInstance).botasState.run(identity, async (state) => {
            loaded = state.conversation.get<number>('schemaVersion') ?? 1
            if (!isRead) add(code, state, id)
            await wait(during)
          })
          if (!isRead) acknowledged.push(id)
        } catch (error) {
          refusals++
          if (loaded !== undefined) overlaps++
          const text = await client.get(key) ?? ''
          assertSame((error as { code: string }).code, 'FST_BOTAS_STATE_NEWER_DOCUMENT')
          if (assertWhole(text).version <= code) throw error
        }
      }))
      const text = await look()
      for (const app of apps.slice(0, highest - 1)) {
        const error = await app.botasState.run(identity, ({ conversation }) => conversation.set('last', 'old')).then(() => undefined, (error) => error)
        assertSame(error?.code, 'FST_BOTAS_STATE_NEWER_DOCUMENT')
        assertSame(await client.get(key), text)
      }
    }
    watch.isOver = true
    await watching
    const { ids } = assertWhole(await look())
    assertSame(ids.toSorted(), acknowledged.toSorted())
  }), { numRuns: RUNS })
  t.comment(`${refusals} turns of old code were refused, ${overlaps} of them though they had been loaded before the upgrade`)
  t.ok(refusals > 0, 'newer documents were met')
})
