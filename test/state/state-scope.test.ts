import { readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { parse } from 'node:querystring'
import { runInNewContext } from 'node:vm'
import t, { type Test } from 'tap'
import botasState, { FileStorage, type StateDocument, type StateScope, type TurnState } from '../../lib/index.js'
import Fastify from 'fastify'
import { CONVERSATION_KEY, USER_KEY } from '../helpers/activities.js'
import { RecordingStorage } from '../helpers/recording-storage.js'

const identity = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1', userId: 'user-1' }

/** Turns of one conversation, run one after another. */
async function openBot (t: Test, stored?: StateDocument) {
  const app = Fastify()
  const storage = new RecordingStorage()
  t.teardown(() => app.close())
  await app.register(botasState, { storage })
  if (stored !== undefined) await storage.store(CONVERSATION_KEY, stored)
  return {
    storage,
    turn: <Result>(work: (scope: StateScope, state: TurnState) => Result) =>
      app.botasState.run(identity, async (state) => work(state.conversation, state)),
    stored: () => storage.stored(CONVERSATION_KEY)
  }
}

t.test('what is set is there in the next turn', async (t) => {
  const { turn, stored } = await openBot(t)
  await turn((scope) => {
    t.equal(scope.get('name'), undefined)
    scope.set('name', 'Ada')
    t.equal(scope.get<string>('name'), 'Ada')
  })
  t.strictSame(await stored(), { name: 'Ada' })
  await turn((scope) => t.equal(scope.get('name'), 'Ada'))
})

t.test('the same object is handed out each time', async (t) => {
  const { turn } = await openBot(t, { list: [1] })
  await turn((scope) => {
    t.equal(scope.get('list'), scope.get('list'))
    const map = { a: 1 }
    scope.set('map', map)
    t.equal(scope.get('map'), map)
  })
})

t.test('an object that is changed in place is saved', async (t) => {
  const { turn, stored } = await openBot(t, { loaded: { list: [1] } })
  await turn((scope) => {
    scope.get<{ list: number[] }>('loaded')?.list.push(2)
    const map: Record<string, number> = {}
    scope.set('set', map)
    map.later = 1
  })
  t.strictSame(await stored(), { loaded: { list: [1, 2] }, set: { later: 1 } })
})

t.test('an object changed in place to what JSON cannot hold fails the save and names the key', async (t) => {
  const { turn, stored } = await openBot(t, { map: {} })
  const work = turn((scope) => { (scope.get('map') as Record<string, unknown>).secret = 1n })
  await t.rejects(work, { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE', message: /"map" in the conversation state.*a BigInt/ })
  t.strictSame(await stored(), { map: {} })
})

t.test('setting undefined deletes', async (t) => {
  const { turn, stored } = await openBot(t, { a: 1, b: 2 })
  await turn((scope) => {
    scope.set('a', undefined)
    t.equal(scope.has('a'), false)
  })
  t.strictSame(await stored(), { b: 2 })
})

t.test('null is a value', async (t) => {
  const { turn, stored } = await openBot(t)
  await turn((scope) => {
    scope.set('nothing', null)
    t.equal(scope.has('nothing'), true)
  })
  t.strictSame(await stored(), { nothing: null })
})

t.test('dates and binary are stored as text', async (t) => {
  const { turn, stored } = await openBot(t)
  await turn((scope) => {
    scope.set('at', new Date(0))
    scope.set('bytes', Buffer.from('hello'))
    scope.set('nested', { array: new Uint16Array([1]), url: new URL('http://localhost/') })
  })
  t.strictSame(await stored(), {
    at: '1970-01-01T00:00:00.000Z', bytes: 'aGVsbG8=', nested: { array: 'AQA=', url: 'http://localhost/' }
  })
})

class Account {
  readonly #number: string
  constructor (number: string) { this.#number = number }
  get masked () { return `…${this.#number.slice(-2)}` }
}

class Named { static name () { return 'secret' } }

const instance = (name: string) => `an instance of ${name}, which has no enumerable properties of its own`

/** What JSON.stringify takes for an empty object, whatever is in it, or for null. */
const hollow: Array<[value: unknown, reason: string]> = [
  [(function * () { yield 'secret' })(), 'a generator'], [(async function * () { yield 'secret' })(), 'a generator'],
  [['secret'].values(), 'an iterator'], [new Map([['secret', 1]]).keys(), 'an iterator'], ['secret'.matchAll(/e/g), 'an iterator'],
  [new URLSearchParams('secret=1'), instance('URLSearchParams')], [new Headers({ secret: '1' }), instance('Headers')],
  [new FormData(), instance('FormData')], [new Blob(['secret']), instance('Blob')], [new Response('secret'), instance('Response')],
  [new WeakRef({ secret: 1 }), instance('WeakRef')], [new AbortController().signal, instance('AbortSignal')],
  [new Account('secret'), instance('Account')], [new (class {})(), instance('an unnamed class')], [new Named(), instance('an unnamed class')],
  [Object.create({ secret: 1 }), instance('Object')], [Object.create(Object.create({ constructor: 'secret' })), instance('an unnamed class')],
  [{ toJSON: () => new Account('secret') }, instance('Account')], [{ toJSON: () => new Date() }, instance('Date')],
  [Object(Number.NaN), 'the number NaN'], [Object(-Infinity), 'the number -Infinity'], [Object(1n), 'a BigInt'], [Object(Symbol('secret')), 'a symbol']
]

t.test('a value that JSON cannot hold is refused at once, and the turn goes on', async (t) => {
  const { turn, stored } = await openBot(t)
  const cycle: Record<string, unknown> = {}
  cycle.self = cycle
  const nested = Array.from({ length: 100_000 }).reduce<unknown>((inner) => [inner], [])
  const refused: Array<[unknown, string]> = [
    [1n, 'a BigInt'], [() => 1, 'a function'], [Symbol('s'), 'a symbol'], [new Map([['secret', 1]]), 'a Map'],
    [new Set([1]), 'a Set'], [cycle, 'a cycle'], [Number.NaN, 'the number NaN'], [Infinity, 'the number Infinity'],
    [new Date('secret'), 'an invalid Date'], [Promise.resolve(1), 'a Promise'], [new WeakMap(), 'a weak collection'],
    [/secret/, 'a RegExp'], [new Error('secret'), 'an Error'],
    [nested, 'too deep a nesting'], [{ get secret () { throw new Error('secret') } }, 'an object that fails'],
    [{ deep: [{ in: new Map() }] }, 'a Map'], ...hollow.flatMap(([value, reason]): typeof hollow => [[value, reason], [{ deep: [value] }, reason]])
  ]
  await turn((scope, { user, temp }) => {
    scope.set('kept', 1)
    for (const [name, one] of Object.entries({ conversation: scope, user, temp } as Record<string, StateScope>)) {
      for (const [value, reason] of refused) {
        const expected = { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE', name: 'FastifyError', message: `"kept" in the ${name} state cannot be stored as JSON: it holds ${reason}` }
        const error = t.throws(() => one.set('kept', value)) as unknown as Error
        t.match(error, expected)
        t.ok(error instanceof TypeError)
        t.notMatch(error.message, /secret/)
        t.throws(() => one.update('kept', () => value), { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE' })
      }
    }
    t.equal(scope.get('kept'), 1)
  })
  t.strictSame(await stored(), { kept: 1 })
})

t.test('an object without prototype and one with toJSON are values like others', async (t) => {
  const { turn, stored } = await openBot(t)
  await turn((scope) => {
    scope.set('bare', Object.assign(Object.create(null), { a: 1 }))
    scope.set('money', { toJSON: () => '3 €' })
    scope.set('none', { toJSON: () => undefined })
    t.equal(scope.has('none'), false)
  })
  t.strictSame(await stored(), { bare: { a: 1 }, money: '3 €' })
})

t.test('boxed primitives, subclasses of Array, objects of another realm and without a class are values like others', async (t) => {
  const { turn, stored } = await openBot(t)
  class Stack extends Array<number> {}
  class Point { constructor (readonly x: number, readonly y: number) {} }
  const values = {
    number: Object(5),
    string: Object('text'),
    empty: Object(''),
    no: Object(false),
    stack: Stack.from([1, 2]),
    none: new Stack(),
    realm: runInNewContext('[{}, [], { list: [1] }, new Date(0)]'),
    query: parse(''),
    bare: Object.create(null),
    json: { toJSON: () => ({}) },
    point: new Point(1, 2),
    plain: {}
  }
  const texts = {
    number: 5,
    string: 'text',
    empty: '',
    no: false,
    stack: [1, 2],
    none: [],
    realm: [{}, [], { list: [1] }, '1970-01-01T00:00:00.000Z'],
    query: {},
    bare: {},
    json: {},
    point: { x: 1, y: 2 },
    plain: {}
  }
  await turn((scope) => {
    for (const [name, value] of Object.entries(values)) scope.set(name, value)
    scope.set('nested', { values })
  })
  t.strictSame(await stored(), { ...texts, nested: { values: texts } })
})

t.test('update gives the new value and takes a missing one for undefined', async (t) => {
  const { turn, stored } = await openBot(t, { n: 1, list: ['a'] })
  await turn((scope) => {
    t.equal(scope.update<number>('n', (n) => (n ?? 0) + 1), 2)
    t.equal(scope.update<number>('n', (n) => (n ?? 0) + 1), 3)
    t.strictSame(scope.update<string[]>('list', (list = []) => [...list, 'b']), ['a', 'b'])
    t.equal(scope.update<string>('new', (current) => `${current}!`), 'undefined!')
    t.equal(scope.update('new', () => undefined), undefined)
  })
  t.strictSame(await stored(), { n: 3, list: ['a', 'b'] })
})

t.test('an update that throws changes nothing', async (t) => {
  const { turn, stored } = await openBot(t, { n: 1 })
  await turn((scope) => {
    t.throws(() => scope.update('n', () => { throw new Error('no') }), { message: 'no' })
    t.equal(scope.get('n'), 1)
  })
  t.strictSame(await stored(), { n: 1 })
})

t.test('an update that changes what it is given, throws and is caught changes nothing, and what was handed out stays good', async (t) => {
  const since = new Date(0)
  const { turn, stored } = await openBot(t, { list: ['a'], map: { a: { b: 1 } } })
  await turn((scope) => {
    const list = scope.get<string[]>('list')
    t.throws(() => scope.update<string[]>('list', (current = []) => {
      current.unshift('half')
      throw new Error('no')
    }), { message: 'no' })
    t.strictSame(list, ['a'])
    list?.push('b')

    const map = scope.get<Record<string, unknown>>('map')
    t.throws(() => scope.update<Record<string, unknown>>('map', (current = {}) => {
      delete current.a
      current.n = 1n
      throw new Error('no')
    }), { message: 'no' })
    t.strictSame(map, { a: { b: 1 } })

    const values = [since, 1]
    scope.set('values', values)
    t.throws(() => scope.update('values', () => { throw new Error('no') }), { message: 'no' })
    t.equal(scope.get<unknown[]>('values')?.[0], since, 'what did not change is not touched')

    scope.set('date', new Date(0))
    t.throws(() => scope.update<Date>('date', (current) => { current?.setFullYear(2000); throw new Error('no') }), { message: 'no' })
  })
  t.strictSame(await stored(), {
    list: ['a', 'b'], map: { a: { b: 1 } }, values: ['1970-01-01T00:00:00.000Z', 1], date: '1970-01-01T00:00:00.000Z'
  })
})

t.test('an update whose value JSON cannot hold changes nothing', async (t) => {
  const { turn, stored } = await openBot(t, { map: { n: 1 } })
  await turn((scope) => {
    scope.set('other', 1)
    for (const change of [() => 1n, (map: object) => map] as Array<(map: object) => unknown>) {
      t.throws(() => scope.update<unknown>('map', (map) => {
        Object.assign(map as object, { n: 99, f () {} })
        return change(map as object)
      }), { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE' })
    }
    t.strictSame(scope.get('map'), { n: 1 })
    t.ok(scope instanceof Object)
  })
  t.strictSame(await stored(), { map: { n: 1 }, other: 1 })
})

t.test('has, delete and keys know own keys only', async (t) => {
  const { turn } = await openBot(t, { a: 1, b: { c: 1 } })
  await turn((scope) => {
    t.equal(scope.has('a'), true)
    t.equal(scope.has('toString'), false)
    t.equal(scope.get('toString'), undefined)
    t.equal(scope.get('__proto__'), undefined)
    scope.set('z', 1)
    t.strictSame(scope.keys(), ['a', 'b', 'z'])
    t.equal(scope.delete('a'), true)
    t.equal(scope.delete('a'), false)
    t.equal(scope.delete('toString'), false)
    t.strictSame(scope.keys(), ['b', 'z'])
    scope.set('a', 2)
    t.ok(scope.has('a'))
  })
})

t.test('keys named like what objects inherit are ordinary keys', async (t) => {
  const { turn, stored } = await openBot(t)
  const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', '', 'valueOf', 'toJSON']
  await turn((scope) => { for (const name of names) scope.set(name, { name }) })
  t.strictSame(Object.keys(await stored() ?? {}), names)
  await turn((scope) => {
    for (const name of names) t.strictSame(scope.get(name), { name })
    t.strictSame(scope.keys(), names)
    t.strictSame(Object.keys(scope.toJSON()), names)
    scope.update('__proto__', () => 1)
    scope.delete('constructor')
  })
  t.equal(JSON.stringify(await stored()), '{"__proto__":1,' + JSON.stringify(Object.fromEntries(names.slice(2).map((name) => [name, { name }]))).slice(1))
  t.equal(({} as Record<string, unknown>).name, undefined)
})

t.test('toJSON is a deep copy of what would be stored', async (t) => {
  const { turn, stored } = await openBot(t, { list: [1], gone: 1 })
  await turn((scope) => {
    scope.set('at', new Date(0))
    scope.delete('gone')
    const copy = scope.toJSON() as { list: number[] }
    t.strictSame(copy, { list: [1], at: '1970-01-01T00:00:00.000Z' })
    copy.list.push(2)
    t.equal(JSON.stringify({ scope }), '{"scope":{"list":[1],"at":"1970-01-01T00:00:00.000Z"}}')
  })
  t.strictSame(await stored(), { list: [1], at: '1970-01-01T00:00:00.000Z' })
})

t.test('a turn that only reads writes nothing', async (t) => {
  const { turn, storage } = await openBot(t, { n: 1, map: { list: [1] } })
  await turn((scope, { user }) => {
    scope.get('n')
    scope.get('map')
    scope.has('n')
    scope.keys()
    scope.toJSON()
    user.get('nothing')
  })
  t.strictSame(storage.calls, [['read', [CONVERSATION_KEY, USER_KEY]]])
})

t.test('a turn that ends with what it began with writes nothing', async (t) => {
  const { turn, storage } = await openBot(t, { n: 1, map: { list: [1] }, at: '1970-01-01T00:00:00.000Z' })
  await turn((scope) => {
    scope.set('n', 1)
    scope.set('map', { list: [1] })
    scope.set('at', new Date(0))
    scope.update<number>('n', (n = 0) => n + 1)
    scope.update<number>('n', (n = 0) => n - 1)
    scope.get<{ list: number[] }>('map')?.list.push(2)
    scope.get<{ list: number[] }>('map')?.list.pop()
    scope.delete('missing')
    scope.set('new', 1)
    scope.delete('new')
    scope.delete('n')
    scope.set('n', 1)
  })
  t.equal(storage.count('update'), 0)
})

t.test('only the scope that changed is written', async (t) => {
  const { turn, storage } = await openBot(t, { n: 1 })
  await turn((_scope, { user }) => user.set('n', 1))
  t.strictSame(storage.calls.slice(1), [['update', [USER_KEY]]])
  await turn((scope, { temp }) => {
    temp.set('n', 1)
    scope.set('n', 2)
  })
  t.strictSame(storage.calls.slice(3), [['update', [CONVERSATION_KEY]]])
})

t.test('what is deleted and then set in one turn is kept', async (t) => {
  const { turn, stored } = await openBot(t, { n: 1, other: 2 })
  await turn((scope, state) => {
    scope.delete('n')
    scope.set('n', 5)
    state.deleteConversationState()
    t.strictSame(scope.keys(), [])
    scope.set('n', 6)
  })
  t.strictSame(await stored(), { n: 6 })
})

t.test('clear and the three delete methods leave nothing behind', async (t) => {
  const { turn, storage, stored } = await openBot(t, { n: 1 })
  await storage.store(USER_KEY, { n: 1 })
  await turn((scope, { temp, ...state }) => {
    scope.get('n')
    scope.clear()
    t.equal(scope.get('n'), undefined)
    t.equal(scope.has('n'), false)
  })
  t.equal(await stored(), undefined)
  await turn((_scope, state) => {
    state.deleteUserState()
    state.temp.set('a', 1)
    state.deleteTempState()
    t.strictSame(state.temp.keys(), [])
    t.strictSame(state.user.keys(), [])
  })
  t.equal(await storage.stored(USER_KEY), undefined)
})

t.test('deleting the last key removes the document', async (t) => {
  const { turn, stored } = await openBot(t, { n: 1 })
  await turn((scope) => scope.delete('n'))
  t.equal(await stored(), undefined)
})

t.test('a key that is not a string is refused', async (t) => {
  const { turn } = await openBot(t)
  await turn((scope) => {
    for (const key of [undefined, null, 7, {}] as unknown as string[]) {
      const expected = { code: 'FST_BOTAS_STATE_INVALID_PATH', message: /a key must be a string, got/ }
      t.throws(() => scope.get(key), expected)
      t.throws(() => scope.set(key, 1), expected)
      t.throws(() => scope.update(key, () => 1), expected)
      t.throws(() => scope.has(key), expected)
      t.throws(() => scope.delete(key), expected)
    }
  })
})

t.test('an update that throws gives back its own error, whatever it had begun to change', async (t) => {
  const { turn, stored } = await openBot(t, { n: 41 })
  const own = new Error('no')
  await turn((scope) => {
    const frozen = Object.freeze({ list: [] as string[] })
    scope.set('frozen', frozen)
    t.throws(() => scope.update<{ list: string[] }>('frozen', (value) => {
      value?.list.push('secret')
      throw own
    }), own)
    t.strictSame(scope.get('frozen'), { list: [] })
    t.throws(() => scope.update('n', () => {
      scope.set('n', { draft: true })
      throw own
    }), own)
    t.equal(scope.get('n'), 41)
  })
  t.strictSame(await stored(), { n: 41, frozen: { list: [] } })
})

t.test('tens of thousands of updates of one key in a turn all count', async (t) => {
  const { storage, turn, stored } = await openBot(t, { text: '', n: 0 })
  await turn(async (scope) => {
    for (let n = 0; n < 20_000; n++) {
      scope.update<number>('n', (n = 0) => n + 1)
      scope.update<string>('text', (text = '') => `${text}.`)
    }
    await storage.store(CONVERSATION_KEY, { text: 'x', n: 1 })
  })
  t.strictSame(await stored(), { text: 'x'.padEnd(20_001, '.'), n: 20_001 })
})

t.test('a value that is nested too deeply for JSON can be deleted, and is left alone by turns that do not', async (t) => {
  const DEPTH = 20_000
  const text = `{"deep":${'['.repeat(DEPTH)}${']'.repeat(DEPTH)},"n":1}`
  const path = join(t.testdir(), `${encodeURIComponent(CONVERSATION_KEY)}.json`)
  await writeFile(path, text)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(botasState, new FileStorage(dirname(path)))
  const turn = (work: (scope: StateScope) => unknown) => app.botasState.run(identity, async (state) => work(state.conversation))
  await turn((scope) => t.ok(scope.get('deep')))
  t.ok(await readFile(path, 'utf8') === text)
  await turn((scope) => t.ok(scope.delete('deep')))
  t.ok(await readFile(path, 'utf8') === '{"n":1}')
})

t.test('a value whose Proxy was revoked fails the save by its code', async (t) => {
  const { turn, stored } = await openBot(t)
  const { proxy, revoke } = Proxy.revocable({ secret: 'hunter2' }, {})
  const work = turn((scope) => {
    scope.set('p', proxy)
    revoke()
  })
  t.notMatch(await t.rejects(work, { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE' }), /hunter2/)
  t.equal(await stored(), undefined)
})

t.test('an object whose toJSON says nothing any more when the turn ends is deleted', async (t) => {
  const { turn, stored } = await openBot(t, { p: 'said', n: 1 })
  await turn((scope) => {
    let said: string | undefined = 'something else'
    scope.set('p', { toJSON: () => said })
    said = undefined
  })
  t.strictSame(await stored(), { n: 1 })
})

t.test('a text that is replaced in place by the bytes that it says writes nothing', async (t) => {
  const { storage, turn, stored } = await openBot(t, { list: ['aGk='] })
  const before = storage.count('update')
  await turn((scope) => { (scope.get('list') as unknown[])[0] = Buffer.from('hi') })
  t.equal(storage.count('update'), before)
  t.strictSame(await stored(), { list: ['aGk='] })
})
