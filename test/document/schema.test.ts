import { setTimeout as wait } from 'node:timers/promises'
import type { StandardSchemaV1 } from '@standard-schema/spec'
import { type } from 'arktype'
import t, { type Test } from 'tap'
import Type from 'typebox'
import * as v from 'valibot'
import { z } from 'zod'
import { MemoryStorage } from '../../lib/index.js'
import { CONVERSATION_KEY, USER_KEY } from '../helpers/activities.js'
import { settled } from '../helpers/build-fastify.js'
import { LeasingStorage, newServer } from '../helpers/leasing-storage.js'
import { filesOf, startObedient } from '../helpers/obedient-bot.js'
import { RecordingStorage } from '../helpers/recording-storage.js'
import { slowStorage } from '../helpers/slow-storage.js'
import { standardSchemaOf } from '../helpers/typebox-schema.js'

const USER = { channelId: 'test', botId: 'bot', userId: 'user-1' }
const BOTH = { ...USER, conversationId: 'conversation-1' }

function ownSchema (validate: StandardSchemaV1.Props['validate']): StandardSchemaV1 {
  return { '~standard': { version: 1, vendor: 'own', validate } }
}

const libraries: Record<string, StandardSchemaV1> = {
  zod: z.object({ name: z.string().optional(), address: z.object({ zip: z.string() }).optional() }),
  valibot: v.object({ name: v.optional(v.string()), address: v.optional(v.object({ zip: v.string() })) }),
  arktype: type({ 'name?': 'string', 'address?': { zip: 'string' } }),
  'TypeBox by an adapter': standardSchemaOf(Type.Object({
    name: Type.Optional(Type.String()), address: Type.Optional(Type.Object({ zip: Type.String() }))
  }))
}

for (const [library, schema] of Object.entries(libraries)) {
  t.test(`a turn that touches a document that fits is like any other: ${library}`, async (t) => {
    const { storage, write, text } = filesOf(t)
    await write(USER_KEY, '{"name":"Ada","score":1.0,"address":{"zip":"N1"}}')
    const { say } = await startObedient(t, { user: { schema } }, { storage })
    t.match(await say({ user: { get: 'name' } }), { status: 200, body: { user: 'Ada' } })
    t.match(await say({ user: { set: { name: 'Grace' } } }), { status: 200 })
    t.equal(await text(USER_KEY), '{"name":"Grace","score":1.0,"address":{"zip":"N1"}}', 'what the schema does not know keeps its very text')
  })

  t.test(`a stored document that does not fit fails the turn that touches it, names the path, and stays byte for byte: ${library}`, async (t) => {
    const { storage, write, text } = filesOf(t)
    const before = '{ "name": "Ada", "address": { "zip": 4711.0 } }'
    await write(USER_KEY, before)
    const { say, told } = await startObedient(t, { user: { schema } }, { storage })
    for (const order of [{ get: 'name' }, { get: 'other' }, { set: { name: 'Grace' } }]) {
      const reply = await say({ user: order, conversation: { set: { n: 1 } } })
      t.match(reply, { status: 500, body: { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT', message: `the document "${USER_KEY}" does not fit its schema: address.zip` } })
      t.notMatch(told(reply), /4711|Ada|Grace/)
    }
    t.equal(await text(USER_KEY), before)
    t.equal(await text(CONVERSATION_KEY), undefined)
  })

  t.test(`a turn that makes a document not fit fails, and nothing of it is stored: ${library}`, async (t) => {
    const { storage, write, text } = filesOf(t)
    const before = '{ "name": "Ada" }'
    await write(USER_KEY, before)
    const { say, told, app } = await startObedient(t, { user: { schema } }, { storage })
    const reply = await say({ user: { set: { address: { zip: 4711 } } }, conversation: { set: { n: 1 } } })
    t.match(reply, { status: 500, body: { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT', message: `the document "${USER_KEY}" would not fit its schema: address.zip` } })
    t.notMatch(told(reply), /4711|Ada/)
    t.match(app.botasState.stats, { flushFailures: 1, lastError: { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT' } })
    t.equal(await text(USER_KEY), before)
    t.equal(await text(CONVERSATION_KEY), undefined)
  })
}

t.test('a message of the schema that quotes nothing is told', async (t) => {
  const told: Record<string, string> = {
    zod: 'address.zip: Invalid input: expected string, received number',
    valibot: 'address.zip does not fit',
    arktype: 'address.zip: address.zip must be a string (was a number)',
    'TypeBox by an adapter': 'address.zip: must be string'
  }
  for (const [library, schema] of Object.entries(libraries)) {
    const { say } = await startObedient(t, { user: { schema } })
    t.match((await say({ user: { set: { address: { zip: 4711 } } } })).body.message, `would not fit its schema: ${told[library]};`, library)
  }
})

/** What a message may make of a value that it quotes. */
const quotations: Record<string, (value: string) => string> = {
  'as it is': (value) => `"${value}" is no colour`,
  'in upper case': (value) => `${value.toUpperCase()} is no colour`,
  'as a part of a word': (value) => `no_colour_${value}_at_all`,
  'as JSON': (value) => `${JSON.stringify(JSON.stringify({ value }))} is no colour`,
  'with its end cut off': (value) => `${value.slice(0, 6)}… is no colour`,
  'with its beginning cut off': (value) => `the colour that ends with ${value.slice(-6)} is none`,
  'letter by letter': (value) => `not a colour: ${[...value].join(' ')}`,
  decomposed: (value) => `${value.normalize('NFD')} is no colour`,
  'in a URL': (value) => `no colour: https://example.org/?colour=${encodeURIComponent(value)}`
}
const canaries = ['hunter2hunter2', '\nhunter2\thunter2', 'hünter2straßehünter2', '🦄🦄🦄🦄🦄🦄🦄🦄', '1234567890123']

for (const [title, quote] of Object.entries(quotations)) {
  t.test(`a value that a message quotes ${title} is told to nobody, be it the member's own or another one's`, async (t) => {
    for (const canary of canaries) {
      for (const path of [['colour'], ['secret'], ['nowhere', 0], []]) {
        const schema = z.looseObject({ secret: z.any() }).superRefine(({ secret }, context) => {
          if (secret !== undefined) context.addIssue({ code: 'custom', path, message: quote(String(secret)) })
        })
        const { say, told } = await startObedient(t, { user: { schema } })
        const reply = await say({ user: { set: { colour: 'red', secret: /^\d/.test(canary) ? Number(canary) : canary } } })
        t.match(reply, { status: 500, body: { message: `${path[0] ?? 'the document'} does not fit;` } })
        t.notMatch(told(reply), /h.{0,3}nter|unte|🦄|123456|890123|\\d83e/i, `${canary} at ${path.join('.')}`)
      }
    }
  })
}

t.test('what valibot and arktype quote by themselves is told to nobody', async (t) => {
  const schemas: StandardSchemaV1[] = [
    v.object({ code: v.optional(v.literal('red')), size: v.optional(v.pipe(v.number(), v.maxValue(9))) }),
    type({ 'code?': '"red"', 'size?': 'number < 9' }),
    z.object({ code: z.literal('red').optional(), size: z.number().max(9, { error: ({ input }) => `not ${input}` }).optional() })
  ]
  for (const schema of schemas) {
    for (const [set, path] of [[{ code: 'hunter2' }, 'code'], [{ size: 471147 }, 'size'], [{ size: 47.1147 }, 'size']] as const) {
      const { say, told } = await startObedient(t, { user: { schema } })
      const reply = await say({ user: { set } })
      t.match(reply, { status: 500, body: { message: `would not fit its schema: ${path}` } })
      t.notMatch(told(reply), /hunter|4711|47[. ]1/)
    }
  }
})

t.test('a value of signs only, and one letter, are told to nobody either', async (t) => {
  for (const secret of ['?!', '#', 'x', '7', 7]) {
    const schema = z.looseObject({}).refine(() => false, { path: ['colour'], message: `no colour: ${secret}` })
    const { say } = await startObedient(t, { user: { schema } })
    t.match((await say({ user: { set: { colour: 'red', secret } } })).body.message, /schema: colour does not fit;/)
  }
})

/** A bot whose schema complains of each document as it is told to. */
async function startComplaining (t: Test) {
  let result: unknown
  const schema = ownSchema((value) => Object.keys(value as object).length === 0 ? { value } : result as StandardSchemaV1.Result<unknown>)
  const bot = await startObedient(t, { user: { schema } })
  return {
    ...bot,
    /** what the schema gives, and what is told of it */
    async refusal (document: object, given: unknown): Promise<string> {
      result = given
      const reply = await bot.say({ user: { set: { ...document } } })
      t.match(reply, { status: 500, body: { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT' } })
      return reply.body.message.replace(`the document "${USER_KEY}" `, '').replace('; what is stored was not modified', '')
    }
  }
}

/** Messages about a value that have a part of it. */
const ofTheirOwn: Array<[value: unknown, message: string]> = [
  ['王芳', '姓名王芳太短了'],
  ['王芳', 'no user at https://example.org/?n=%E7%8E%8B%E8%8A%B3'],
  ['王', 'no user at https://example.org/?n=%E7%8E%8B'],
  ['王', 'no user at https://example.org/?to=%2F%3Fn%3D%25E7%258E%258B'],
  ['40%', 'no discount of 100%, nor of 40%'],
  ['Al', 'who_ALx is not known'],
  ['X', 'no size is called x'],
  [87, '87kg is too heavy'],
  [true, 'Expected false but received true'],
  [{ isMember: false }, 'Expected true but received false'],
  [{ city: 'Rome', streets: [{ name: 'Via Appia' }] }, 'there are no trams in Appia'],
  [{ 'ada@example.org': 1 }, 'nobody is called Ada'],
  ['Margarethe', 'Mar… is unknown'],
  ['Margarethe', '…the is unknown'],
  ['Margarethe', '…garet… is unknown'],
  ['ﾏﾙｺ', 'マルコ is unknown'],
  ['istanbul', 'İSTANBUL is unknown'],
  ['λόγος', 'ΛΌΓΟΣ is unknown'],
  ['#', '# is no colour']
]

t.test('what a message may have of the value that it is about is told to nobody, be it one letter', async (t) => {
  const { refusal } = await startComplaining(t)
  for (const [value, message] of ofTheirOwn) t.equal(await refusal({ it: value }, { issues: [{ path: ['it'], message }] }), 'would not fit its schema: it does not fit', message)
})

t.test('a message without a word is told where it quotes nothing', async (t) => {
  const { refusal } = await startComplaining(t)
  t.equal(await refusal({ it: 'Al', other: 'X' }, { issues: [{ path: ['it'], message: '!!' }] }), 'would not fit its schema: it: !!')
})

t.test('a message about one value is not told where it may quote another one, and is told where it has some letters by chance', async (t) => {
  const { refusal } = await startComplaining(t)
  const cases: Array<[other: unknown, message: string, isTold?: 'told']> = [
    ['Ada', 'not for Ada'],
    ['Ada', 'not for user_ADA!'],
    ['Ada', 'no adaptation', 'told'],
    ['d', 'has to be an id', 'told'],
    [87, 'not with 87kg'],
    [87, 'not before 1987', 'told'],
    ['+49 30 12', 'call 49-30-12 before'],
    ['+49 30 12', 'call 49 before', 'told'],
    ['her name is Margarethe', 'notmargarethe2'],
    ['her name is Margarethe', 'her name must be a text'],
    ['her name is Margarethe', 'too short, name it', 'told'],
    ['王芳 住在北京', '不是王芳的'],
    ['王', '不是王芳的'],
    [[[{ deep: ['Ms. Lovelace'] }]], 'not for Lovelace'],
    [{ 'ada@example.org': 1 }, 'not for ada@example.org'],
    [{ address: 1 }, 'address is wrong', 'told'],
    [[true, null, '', ' '], 'must be true, or null', 'told']
  ]
  for (const [other, message, isTold] of cases) {
    t.equal(await refusal({ other, size: 5 }, { issues: [{ path: ['size'], message }] }), `would not fit its schema: size${isTold ? `: ${message}` : ' does not fit'}`, message)
  }
})

t.test('a value that a message has far behind its beginning is cut off with it', async (t) => {
  const { refusal } = await startComplaining(t)
  const beginning = 'expected one of '.padEnd(200, 'red, ')
  t.equal(await refusal({ name: 'Margarethe' }, { issues: [{ path: ['name'], message: `${beginning}Margarethe` }] }), `would not fit its schema: name: ${beginning}…`)
})

t.test('of many issues the first five are told, with paths and messages that are not too long', async (t) => {
  const places = Object.fromEntries(Array.from({ length: 8 }, (_, n) => [`place ${n}`, { ['x'.repeat(500)]: n }]))
  const { refusal } = await startComplaining(t)
  const message = await refusal(places, { issues: Object.keys(places).map((name) => ({ path: [name, 'x'.repeat(500)], message: 'wrong '.repeat(500) })) })
  t.match(message, /"place 0"\.xxx.*…: wrong wrong.*…; "place 1".*"place 4".*; and 3 more$/)
  t.notMatch(message, 'place 5')
  t.ok(message.length < 2300, String(message.length))
})

t.test('a place is named by the keys of the path, as far as it leads through the document; and by no name that may be a value', async (t) => {
  const document = {
    list: ['a', { zip: 1 }],
    'my colour': 7,
    contacts: { 'ada@example.org': 7, 4711: { zip: 7 } },
    text: '{"ada@example.org":7,"list":[4711]}',
    none: null
  }
  const places: Array<[path: unknown, told: string]> = [
    [[{ key: 'list' }, { key: 0 }], 'list.0'],
    [['list', '1', 'zip'], 'list.1.zip'],
    [['my colour'], '"my colour"'],
    [['contacts', 'ada@example.org'], 'contacts.*'],
    [['contacts', 4711, 'zip'], 'contacts.*.zip'],
    [['contacts', Symbol('ada@example.org')], 'contacts.*'],
    // What a schema parsed is no part of the document.
    [['text', 'ada@example.org'], 'text'],
    [['text', 'list', 0], 'text'],
    [['none', 'Ada'], 'none'],
    // What is missing.
    [['list', 2], 'list.2'],
    [['list', 4711], 'list.*'],
    [['name'], 'name'],
    [['last name'], '"last name"'],
    [['ada@example.org'], '*'],
    [['contacts', 'work'], 'contacts.work'],
    [['contacts', 'at home'], 'contacts.*'],
    [['contacts', 'work', 'Ada'], 'contacts.work'],
    [['constructor', 'name'], 'constructor'],
    [[], 'the document'],
    [undefined, 'the document'],
    ['name', 'the document']
  ]
  const { refusal } = await startComplaining(t)
  for (const [path, told] of places) t.equal(await refusal(document, { issues: [{ path, message: 'too much' }] }), `would not fit its schema: ${told}: too much`, told)
})

t.test('an address that zod finds in what it made of a text is told to nobody', async (t) => {
  const contacts = z.string().transform((text) => JSON.parse(text)).pipe(z.record(z.string(), z.string()))
  const { say, told } = await startObedient(t, { user: { schema: z.object({ contacts: contacts.optional() }) } })
  const reply = await say({ user: { set: { contacts: '{"ada@example.org":7}' } } })
  t.match(reply, { status: 500, body: { message: `the document "${USER_KEY}" would not fit its schema: contacts: Invalid input: expected string, received number;` } })
  t.notMatch(told(reply), 'example')
})

t.test('a document that is nested deep, and one of many texts, are told of like any other', async (t) => {
  const deep = JSON.parse(`${'{"a":['.repeat(1500)}"hunter2"${']}'.repeat(1500)}`)
  const texts = Array.from({ length: 60_000 }, (_, n) => `text ${n.toString(36)}`)
  const { storage, write, text } = filesOf(t)
  let issues: object[] = []
  const { say, told } = await startObedient(t, { user: { schema: ownSchema((value) => Object.keys(value as object).length === 0 ? { value } : { issues } as StandardSchemaV1.FailureResult) } }, { storage })
  for (const stored of [{ deep }, { texts, secret: 'hunter2' }]) {
    await write(USER_KEY, JSON.stringify(stored))
    issues = [{ path: [], message: 'not hunter2' }, { path: ['n'], message: 'not hunter2' }, { path: ['n'], message: 'too much' }]
    const reply = await say({ user: { get: 'n' } })
    t.match(reply, { status: 500, body: { message: /does not fit its schema: the document does not fit; n does not fit; n: too much;/ } })
    t.notMatch(told(reply), 'hunter')
    t.equal(await text(USER_KEY), JSON.stringify(stored))
  }
})

t.test('a schema that does not keep to the contract refuses the document without a quotation', async (t) => {
  const { refusal, told } = await startComplaining(t)
  const thrown = (error: unknown) => Object.defineProperty({}, 'message', { get () { throw error } })
  const results: Array<[result: unknown, told: string]> = [
    [undefined, 'could not be checked: its schema returned undefined in place of a result'],
    [null, 'could not be checked: its schema returned null in place of a result'],
    ['hunter2', 'could not be checked: its schema returned a string in place of a result'],
    [{ get issues () { throw new Error('hunter2') } }, 'could not be checked: its schema threw an error'],
    [{ issues: [thrown(new TypeError('hunter2'))] }, 'could not be checked: its schema threw a TypeError'],
    [{ issues: [thrown(Object.assign(new Error('hunter2'), { name: 'hunter2' }))] }, 'could not be checked: its schema threw an error'],
    [{ issues: [thrown(new Proxy({}, { getPrototypeOf () { throw new Error('hunter2') } }))] }, 'could not be checked: its schema threw an object'],
    [{ issues: [thrown('hunter2')] }, 'could not be checked: its schema threw a string'],
    [{ issues: [{ path: [{ key: { toString: () => { throw new RangeError('hunter2') } } }], message: 'no' }] }, 'could not be checked: its schema threw a RangeError'],
    [{ issues: [null, undefined, 'hunter2'] }, 'would not fit its schema: the document does not fit; the document does not fit; the document does not fit'],
    [{ issues: 'hunter2' }, 'would not fit its schema: the document does not fit'],
    [{ issues: [] }, 'would not fit its schema: the document does not fit'],
    [{ issues: [{ path: 'hunter2', message: 'no' }] }, 'would not fit its schema: the document: no'],
    [{ issues: [{ path: ['secret'], message: ['hunter2'] }, { path: null, message: 7 }] }, 'would not fit its schema: secret does not fit; the document does not fit']
  ]
  for (const [result, problem] of results) t.equal(await refusal({ secret: 'hunter2' }, result), problem)
  t.notMatch(told(), 'hunter')
})

t.test('a document fits where a schema gives any falsy value for issues', async (t) => {
  for (const issues of [undefined, null, false, 0, '']) {
    const { say } = await startObedient(t, { user: { schema: ownSchema((value) => ({ value, issues }) as StandardSchemaV1.SuccessResult<unknown>) } })
    t.match(await say({ user: { set: { name: 'Ada' } } }), { status: 200 })
  }
})

const required = z.object({ name: z.string() })

t.test('a document that is not there is not checked when it is touched', async (t) => {
  const { say, app } = await startObedient(t, { user: { schema: required }, conversation: { schema: required } })
  t.match(await say({ user: { get: 'name' }, conversation: { get: 'name' } }), { status: 200 })
  t.match(await say({ user: { set: { age: 1 } } }), { status: 500, body: { message: /would not fit its schema: name/ } })
  t.match(await say({ user: { set: { name: 'Ada' } } }), { status: 200 })
  t.strictSame(await app.botasState.storage.read([USER_KEY, CONVERSATION_KEY]), { [USER_KEY]: { name: 'Ada' } })
})

t.test('a document of which nothing is left goes, though the schema would not have an empty one', async (t) => {
  const { storage, write, text } = filesOf(t)
  const { say } = await startObedient(t, { user: { schema: required } }, { storage })
  await write(USER_KEY, '{"name":"Ada"}')
  t.match(await say({ user: { delete: 'name' } }), { status: 200 })
  t.equal(await text(USER_KEY), undefined)
})

t.test('a document that does not fit can be cleared, and deleted, and begun anew', async (t) => {
  const { storage, write, text } = filesOf(t)
  const { say, app } = await startObedient(t, { user: { schema: required } }, { storage })
  for (const invalid of ['{"name":7}', '{"name":', '[]']) {
    await write(USER_KEY, invalid)
    t.match(await say({ user: { clear: true } }), { status: 200 })
    t.equal(await text(USER_KEY), undefined)
    await write(USER_KEY, invalid)
    await app.botasState.run(USER, (state) => state.deleteUserState())
    t.equal(await text(USER_KEY), undefined)
    await write(USER_KEY, invalid)
    t.match(await say({ user: { clear: true, set: { age: 1 } } }), { status: 500, body: { message: /would not fit/ } })
    t.equal(await text(USER_KEY), invalid)
    t.match(await say({ user: { clear: true, set: { name: 'Ada' } } }), { status: 200 })
    t.equal(await text(USER_KEY), '{"name":"Ada"}')
  }
})

t.test('a document that does not fit hinders no turn that does not touch it', async (t) => {
  const { storage, write, text } = filesOf(t)
  await write(USER_KEY, '{"name":7}')
  const { say } = await startObedient(t, { user: { schema: required }, conversation: { schema: z.object({ n: z.number() }) } }, { storage })
  t.match(await say({ conversation: { set: { n: 1 } } }), { status: 200 })
  t.equal(await text(CONVERSATION_KEY), '{"n":1}')
  t.equal(await text(USER_KEY), '{"name":7}')
})

t.test('a corrupt document is called corrupt also where there is a schema', async (t) => {
  const { storage, write, text } = filesOf(t)
  await write(USER_KEY, '{"name":"Ada"')
  const { say } = await startObedient(t, { user: { schema: required } }, { storage })
  t.match(await say({ user: { get: 'name' } }), { status: 500, body: { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT' } })
  t.equal(await text(USER_KEY), '{"name":"Ada"')
})

t.test('a handler that swallows the error of an invalid document stores nothing all the same', async (t) => {
  const { storage, write, text } = filesOf(t)
  await write(USER_KEY, '{"name":7}')
  const { app } = await startObedient(t, { user: { schema: required } }, { storage })
  await t.rejects(app.botasState.run(BOTH, ({ user, conversation }) => {
    conversation.set('n', 1)
    try {
      user.set('name', 'Ada')
    } catch {}
  }), { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT' })
  t.strictSame([await text(USER_KEY), await text(CONVERSATION_KEY)], ['{"name":7}', undefined])
})

t.test('where one scope does not fit nothing of either is stored, also on a storage that saves each by itself', async (t) => {
  for (const storage of [slowStorage(), new MemoryStorage()]) {
    const { say } = await startObedient(t, { user: { schema: required }, conversation: { schema: required } }, { storage })
    for (const [user, conversation, key] of [['Ada', 7, CONVERSATION_KEY], [7, 'Ada', USER_KEY]] as const) {
      t.match(await say({ user: { set: { name: user } }, conversation: { set: { name: conversation } } }), {
        status: 500, body: { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT', message: `"${key}" would not fit` }
      })
      t.strictSame(await storage.read([USER_KEY, CONVERSATION_KEY]), {})
    }
  }
})

t.test('an activity whose turn was refused for its document is handled when it is delivered again', async (t) => {
  for (const concurrency of ['parallel', 'queue'] as const) {
    const { say, app } = await startObedient(t, { user: { schema: required } }, { once: true, concurrency })
    t.match(await say({ user: { set: { name: 7 } } }), { status: 500, body: { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT' } })
    t.match(await say({ user: { set: { name: 'Ada' } } }), { status: 200 })
    t.match(await say({ user: { set: { name: 'Grace' } } }), { status: 200 }, 'it was handled by now')
    t.strictSame(await app.botasState.storage.read([USER_KEY]), { [USER_KEY]: { name: 'Ada' } })
  }
})

t.test('with flush "onResponse" the log names the path', async (t) => {
  const { say, log, app } = await startObedient(t, { user: { schema: required } }, { flush: 'onResponse' })
  t.match(await say({ user: { set: { name: 4711 } } }), { status: 200 })
  await settled(() => log.length > 0)
  t.match(log, [{ msg: 'the state of a turn was not saved', code: 'FST_BOTAS_STATE_INVALID_DOCUMENT', err: { message: /schema: name: Invalid input/ } }])
  t.notMatch(JSON.stringify([log, app.botasState.stats]), '4711')
  t.strictSame(await app.botasState.storage.read([USER_KEY]), {})
})

t.test('defaults and transforms of a schema are not applied, neither to what a turn reads nor to what is stored', async (t) => {
  const schemas: StandardSchemaV1[] = [
    z.object({ name: z.string().transform((name) => name.length), tongue: z.string().default('en') }),
    z.object({ name: z.string().overwrite((name) => name.toUpperCase()) }),
    v.object({ name: v.pipe(v.string(), v.toUpperCase()), tongue: v.optional(v.string(), 'en') }),
    type({ name: type('string').pipe((name) => name.length), tongue: 'string = "en"', '+': 'delete' })
  ]
  for (const schema of schemas) {
    const { storage, write, text } = filesOf(t)
    await write(USER_KEY, '{"name":"Ada","extra":1e0}')
    const { say } = await startObedient(t, { user: { schema } }, { storage })
    t.match(await say({ user: { get: 'name' } }), { body: { user: 'Ada' } })
    t.strictSame((await say({ user: { get: 'tongue' } })).body, {})
    t.match(await say({ user: { set: { age: 36 } } }), { status: 200 })
    t.equal(await text(USER_KEY), '{"name":"Ada","extra":1e0,"age":36}')
  }
})

t.test('a schema that changes what it is given changes neither the turn nor what is stored', async (t) => {
  const schema = z.looseObject({ list: z.array(z.number()) }).refine(({ list }) => {
    list.push(1)
    return list.length > 1
  })
  const { say, app } = await startObedient(t, { user: { schema } })
  t.match(await say({ user: { set: { list: [0] }, get: 'list' } }), { body: { user: [0] } })
  t.match(await say({ user: { get: 'list' } }), { body: { user: [0] } })
  t.strictSame(await app.botasState.storage.read([USER_KEY]), { [USER_KEY]: { list: [0] } })
})

t.test('an asynchronous schema is refused at registration where it is known to be one', async (t) => {
  const schemas: StandardSchemaV1[] = [
    v.objectAsync({ name: v.string() }),
    z.object({ name: z.string().optional() }).refine(async () => true),
    ownSchema(async () => { throw new Error('no') })
  ]
  for (const schema of schemas) {
    await t.rejects(startObedient(t, { user: { schema } }), {
      code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /^the option "documents\.user\.schema" must be a synchronous schema: this one returned a promise/
    })
  }
})

t.test('an asynchronous schema that shows itself later is refused at its first use, of a stored document and of a new one', async (t) => {
  const schemas: StandardSchemaV1[] = [
    z.object({ name: z.string().refine(async () => true) }),
    ownSchema((document) => Object.keys(document as object).length === 0 ? { value: document } : Promise.reject(new Error('no')))
  ]
  for (const schema of schemas) {
    const { storage, write, text } = filesOf(t)
    const { say } = await startObedient(t, { user: { schema } }, { storage })
    const refused = { status: 500, body: { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT', message: /could not be checked: its schema returned a promise/ } }
    t.match(await say({ user: { set: { name: 'Ada' } } }), refused)
    t.equal(await text(USER_KEY), undefined)
    await write(USER_KEY, '{"name":"Ada"}')
    t.match(await say({ user: { get: 'name' } }), refused)
    t.equal(await text(USER_KEY), '{"name":"Ada"}')
  }
})

t.test('a schema that throws fails the turn that touches the document, and its message is told to nobody', async (t) => {
  const hostOf = (site: unknown) => site === undefined || new URL(String(site)).host !== ''
  const schemas: Array<[StandardSchemaV1, RegExp]> = [
    [v.looseObject({ site: v.custom(hostOf) }), /could not be checked: its schema threw a TypeError;/],
    [z.looseObject({ site: z.custom(hostOf) }), /could not be checked: its schema returned a promise: its checks must be synchronous, and must not throw;/],
    [type({ 'site?': type('string').narrow((site) => { throw site }) }), /could not be checked: its schema threw a string;/],
    [type({ 'site?': type('string').narrow((site) => { throw Object.assign(new Error(site), { name: site }) }) }), /could not be checked: its schema threw an error;/]
  ]
  for (const [schema, problem] of schemas) {
    const { storage, write, text } = filesOf(t)
    const { say, told } = await startObedient(t, { user: { schema } }, { storage })
    const created = await say({ user: { set: { site: 'hunter2' } } })
    t.match(created, { status: 500, body: { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT', message: problem } })
    await write(USER_KEY, '{"site":"hunter2"}')
    const touched = await say({ user: { get: 'site' } })
    t.match(touched, { status: 500, body: { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT', message: problem } })
    t.notMatch(told(created, touched), 'hunter')
    t.equal(await text(USER_KEY), '{"site":"hunter2"}')
  }
})

t.test('a schema that throws for an empty document is no reason to refuse it at registration', async (t) => {
  const schema = v.custom<{ name: string }>((document) => (document as { name: string }).name.length > 0)
  const { say } = await startObedient(t, { user: { schema } })
  t.match(await say({ user: { set: { name: 'Ada' } } }), { status: 200 })
})

t.test('changes that fit each by itself, and not together, are refused where they are merged', async (t) => {
  const schema = z.object({ seats: z.number(), guests: z.array(z.string()) }).partial()
    .refine(({ seats = 0, guests = [] }) => guests.length <= seats, 'more guests than seats')
  for (const storage of [new MemoryStorage(), slowStorage(), filesOf(t).storage, new LeasingStorage(newServer())]) {
    await storage.write({ [USER_KEY]: { seats: 2, guests: ['Ada'] } })
    const { app } = await startObedient(t, { user: { schema } }, { storage })
    const add = (guest: string) => (guests: string[] = []) => [...guests, guest]
    await t.rejects(app.botasState.run(BOTH, async ({ user, conversation }) => {
      user.update<string[]>('guests', add('Grace'))
      await app.botasState.run(USER, ({ user }) => user.set('seats', 1))
      // Without commit each document is saved by itself.
      if (!(storage instanceof RecordingStorage)) conversation.set('n', 1)
    }), { code: 'FST_BOTAS_STATE_INVALID_DOCUMENT', message: /users\/user-1" would not fit its schema: the document: more guests than seats/ })
    t.strictSame(await storage.read([USER_KEY, CONVERSATION_KEY]), { [USER_KEY]: { seats: 1, guests: ['Ada'] } })
  }
})

t.test('a change is merged with what another turn stored meanwhile, where both fit together', async (t) => {
  const storage = slowStorage()
  const { app } = await startObedient(t, { user: { schema: required } }, { storage })
  await app.botasState.run(USER, async ({ user }) => {
    user.set('age', 36)
    await app.botasState.run(USER, ({ user }) => user.set('name', 'Ada'))
    await wait(5)
    user.set('name', 'Grace')
  })
  t.strictSame(await storage.stored(USER_KEY), { age: 36, name: 'Grace' })
})
