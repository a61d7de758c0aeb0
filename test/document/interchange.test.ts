import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import botasState, { FileStorage, type TurnState } from '../../lib/index.js'

const identity = { channelId: 'test', botId: 'bot', conversationId: 'conversation-1', userId: 'user-1' }
const FILE = 'test%2Fbot%2Fconversations%2Fconversation-1.json'

/** Runs one turn on a document that another bot left, and gives the text that it leaves. */
async function after (t: Test, text: string, work: (state: TurnState) => void): Promise<string> {
  const directory = t.testdir()
  await writeFile(join(directory, FILE), text)
  const app = Fastify()
  await app.register(botasState, { storage: new FileStorage(directory) })
  await app.botasState.run(identity, work)
  await app.close()
  return readFile(join(directory, FILE), 'utf8')
}

t.test('a document is where and what the other botas libraries expect', async (t) => {
  const directory = t.testdir()
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(botasState, { storage: new FileStorage(directory) })
  await app.botasState.run(identity, ({ conversation, user }) => {
    conversation.set('turnCount', 1)
    user.set('name', 'Zoë')
  })
  t.equal(await readFile(join(directory, FILE), 'utf8'), '{"turnCount":1}')
  t.equal(await readFile(join(directory, 'test%2Fbot%2Fusers%2Fuser-1.json'), 'utf8'), '{"name":"Zoë"}')
})

t.test('documents are read however they are written', async (t) => {
  const texts = {
    compact: '{"name":"Zo\u00eb 🤖","n":2,"ratio":0.5,"list":[1,{"a":null}],"yes":true}',
    'Python, escaped': '{"name": "Zo\\u00eb \\ud83e\\udd16", "n": 2, "ratio": 0.5, "list": [1, {"a": null}], "yes": true}',
    '.NET, indented': '{\r\n  "name": "Zo\\u00EB \\uD83E\\uDD16",\r\n  "n": 2,\r\n  "ratio": 5E-1,\r\n  "list": [\r\n    1,\r\n    { "a": null }\r\n  ],\r\n  "yes": true\r\n}\r\n'
  }
  for (const [name, text] of Object.entries(texts)) {
    const untouched = await after(t, text, ({ conversation }) => {
      t.strictSame(conversation.toJSON(), { name: 'Zoë 🤖', n: 2, ratio: 0.5, list: [1, { a: null }], yes: true }, name)
    })
    t.equal(untouched, text, 'and stay as they are where nothing changes')
  }
})

t.test('a number beyond JavaScript can be read, replaced, deleted and left alone, and is never rounded in silence', async (t) => {
  const text = '{"huge":1e400,"in":{"list":[-1e400]},"name":"Ada"}'
  t.equal(await after(t, text, ({ conversation }) => {
    t.equal(conversation.get('huge'), Infinity)
    t.strictSame(conversation.get('in'), { list: [-Infinity] })
    t.strictSame(conversation.toJSON(), { huge: Infinity, in: { list: [-Infinity] }, name: 'Ada' })
    conversation.set('name', 'Zoë')
  }), '{"huge":1e400,"in":{"list":[-1e400]},"name":"Zoë"}')
  t.equal(await after(t, text, ({ conversation }) => {
    conversation.set('huge', 1)
    conversation.delete('in')
  }), '{"huge":1,"name":"Ada"}')
  t.equal(await after(t, text, ({ conversation }) => conversation.set('huge', null)), '{"huge":null,"in":{"list":[-1e400]},"name":"Ada"}')
  t.equal(await after(t, text, ({ conversation }) => conversation.update('huge', () => 'Infinity')), '{"huge":"Infinity","in":{"list":[-1e400]},"name":"Ada"}')
  t.equal(await after(t, text, ({ conversation }) => {
    t.throws(() => conversation.update<number>('huge', (n = 0) => n + 1), { code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE' })
  }), text)
  await t.rejects(after(t, text, ({ conversation }) => { conversation.get<{ list: number[] }>('in')?.list.push(1) }), {
    code: 'FST_BOTAS_STATE_NOT_SERIALIZABLE', message: /"in" in the conversation state/
  })
})

t.test('what a turn does not touch keeps its very text', async (t) => {
  const text = `\uFEFF {
    "float" : 1.0, "long":9007199254740993,\t"exponent": 1E+2 ,
    "escaped \\"\\u00e9\\\\": "\\u00e9 \\/ } ] , \\" \\\\",
    "nested": { "big": [ 12345678901234567890, {"a": "]}"} ], "empty": {} , "none": [] },
    "negative": -0.0, "nothing":null, "yes":true ,
    "count": 1
}`
  const changed = await after(t, text, ({ conversation }) => {
    conversation.update<number>('count', (n = 0) => n + 1)
    conversation.set('new', 'é')
    conversation.get('nested')
    conversation.set('float', 1)
    conversation.delete('nothing')
  })
  t.equal(changed, '{"float":1.0,"long":9007199254740993,"exponent":1E+2,' +
    '"escaped \\"é\\\\":"\\u00e9 \\/ } ] , \\" \\\\",' +
    '"nested":{ "big": [ 12345678901234567890, {"a": "]}"} ], "empty": {} , "none": [] },' +
    '"negative":-0.0,"yes":true,"count":2,"new":"é"}')
})

t.test('of a name that stands twice the last one counts', async (t) => {
  const changed = await after(t, '{"a":1, "a":2.0, "n":1}', ({ conversation }) => {
    t.equal(conversation.get('a'), 2)
    conversation.set('n', 2)
  })
  t.equal(changed, '{"a":2.0,"n":2}')
})

t.test('an empty object with space in it can be added to', async (t) => {
  t.equal(await after(t, ' { \n } ', ({ conversation }) => conversation.set('n', 1)), '{"n":1}')
})

t.test('what is undefined inside of a value is left out', async (t) => {
  t.equal(await after(t, '{ "a": 1.0 }', ({ conversation }) => conversation.set('map', { gone: undefined })), '{"a":1.0,"map":{}}')
})

t.test('what JavaScript cannot hold does not keep a turn from saving the rest', async (t) => {
  const long = `"${'\\u00e9\\"\\\\'.repeat(1_000_000)}"`
  const deep = `${'['.repeat(1500)}${']'.repeat(1500)}`
  t.equal(await after(t, `{ "huge": 1e400, "in": [1e400], "long": ${long}, "deep": ${deep}, "n": 1 }`, ({ conversation }) => {
    conversation.set('n', 2)
  }), `{"huge":1e400,"in":[1e400],"long":${long},"deep":${deep},"n":2}`)
})
