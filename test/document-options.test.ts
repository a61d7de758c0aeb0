import { type } from 'arktype'
import Fastify from 'fastify'
import t from 'tap'
import * as v from 'valibot'
import { z } from 'zod'
import botasState, { type BotasStateOptions, MemoryStorage, checkDocuments, errorCodes } from '../lib/index.js'

async function register (documents: unknown): Promise<void> {
  const app = Fastify()
  await app.register(botasState, { documents } as BotasStateOptions)
  await app.close()
}

const same = (document: unknown) => document

t.test('documents may have a schema, versions, both or neither, in either scope', async () => {
  const schemas = [z.object({}), v.object({}), type({}), type({ 'name?': 'string' }), z.custom()]
  for (const schema of schemas) await register({ conversation: { schema }, user: { schema, version: { key: 'v' } } })
  const none = [undefined, {}, { conversation: undefined }, { user: {} }, { user: { schema: undefined, version: undefined } }]
  const versions = [{ key: 'v' }, { key: 'v', upgrades: undefined }, { key: 'v', upgrades: {} }, { key: '__proto__', upgrades: { 3: same, 2: same } }, { key: ' ', upgrades: { 2: same } }]
  for (const documents of [...none, ...versions.map((version) => ({ user: { version } }))]) await register(documents)
})

const wrong: Array<[documents: unknown, message: RegExp]> = [
  [null, /^the option "documents" must be an object, got null$/],
  ['zod', /^the option "documents" must be an object, got "zod"$/],
  [[], /^the option "documents" must be an object, got an array$/],
  [{ users: {} }, /^unknown option "documents\.users"; known options: documents\.conversation, documents\.user$/],
  [{ schema: z.object({}) }, /^unknown option "documents\.schema"; known options: documents\.conversation, documents\.user$/],
  [{ temp: {} }, /^unknown option "documents\.temp"/],
  [{ user: null }, /^the option "documents\.user" must be an object, got null$/],
  [{ conversation: 7 }, /^the option "documents\.conversation" must be an object, got 7$/],
  [{ user: z.object({}) }, /^unknown option "documents\.user\./],
  [{ user: { scheme: 1 } }, /^unknown option "documents\.user\.scheme"; known options: documents\.user\.schema, documents\.user\.version$/],
  [{ user: { schema: null } }, /^the option "documents\.user\.schema" must be a Standard Schema, such as one of zod, valibot or arktype \(https:\/\/standardschema\.dev\), got null$/],
  [{ user: { schema: 'object' } }, /"documents\.user\.schema" must be a Standard Schema.*got "object"$/],
  [{ user: { schema: { type: 'object' } } }, /"documents\.user\.schema" must be a Standard Schema.*got an object$/],
  [{ user: { schema: same } }, /"documents\.user\.schema" must be a Standard Schema.*got a function$/],
  [{ user: { schema: { '~standard': {} } } }, /"documents\.user\.schema" must be a Standard Schema/],
  [{ conversation: { schema: { '~standard': null } } }, /"documents\.conversation\.schema" must be a Standard Schema/],
  [{ conversation: { schema: v.objectAsync({}) } }, /^the option "documents\.conversation\.schema" must be a synchronous schema: this one returned a promise: its checks must be synchronous, and must not throw$/],
  [{ user: { schema: z.object({}).refine(async () => true) } }, /"documents\.user\.schema" must be a synchronous schema/],
  [{ user: { version: 2 } }, /^the option "documents\.user\.version" must be an object, got 2$/],
  [{ user: { version: { kez: 'v' } } }, /^unknown option "documents\.user\.version\.kez"; known options: documents\.user\.version\.key, documents\.user\.version\.upgrades$/],
  [{ user: { version: {} } }, /^the option "documents\.user\.version\.key" must be the name of a member, got undefined$/],
  [{ user: { version: { key: '' } } }, /"documents\.user\.version\.key" must be the name of a member, got ""$/],
  [{ user: { version: { key: 7 } } }, /"documents\.user\.version\.key" must be the name of a member, got 7$/],
  [{ user: { version: { key: 'v', upgrades: [same] } } }, /^the option "documents\.user\.version\.upgrades" must be an object, got an array$/],
  [{ user: { version: { key: 'v', upgrades: same } } }, /"documents\.user\.version\.upgrades" must be an object, got a function$/],
  [{ user: { version: { key: 'v', upgrades: { 1: same } } } }, /^the option "documents\.user\.version\.upgrades" must be one for each version from 2 on, without a gap, got one for version 1$/],
  [{ user: { version: { key: 'v', upgrades: { 1: same, 2: same } } } }, /must be one for each version from 2 on, without a gap, got one for version 1$/],
  [{ user: { version: { key: 'v', upgrades: new Map([[2, same]]) } } }, /^the option "documents\.user\.version\.upgrades" must be a plain object, got an instance of a class$/],
  [{ user: { version: { key: 'v', upgrades: new (class { 2 = same })() } } }, /"documents\.user\.version\.upgrades" must be a plain object, got an instance of a class$/],
  [{ user: { version: { key: 'v', upgrades: { 2: same, 4: same } } } }, /got none for version 3$/],
  [{ user: { version: { key: 'v', upgrades: { 2: same, '2.0': same } } } }, /got none for version 3$/],
  [{ user: { version: { key: 'v', upgrades: { 2: same, 2.5: same } } } }, /got none for version 3$/],
  [{ user: { version: { key: 'v', upgrades: { two: same } } } }, /got none for version 2$/],
  [{ user: { version: { key: 'v', upgrades: { 2: 'rename' } } } }, /^the option "documents\.user\.version\.upgrades\.2" must be a function, got "rename"$/],
  [{ user: { version: { key: 'v', upgrades: { 2: undefined } } } }, /^the option "documents\.user\.version\.upgrades\.2" must be a function, got undefined$/],
  [{ conversation: { version: { key: 'v', upgrades: { 2: same, 3: async () => ({}) } } } }, /^the option "documents\.conversation\.version\.upgrades\.3" must be a synchronous function, got an async one$/]
]

for (const [index, [documents, message]] of wrong.entries()) {
  t.test(`a wrong option is refused by the plugin and by the dry run, by its name: ${index + 1}`, async (t) => {
    for (const refused of [register(documents), checkDocuments(new MemoryStorage(), [], { documents } as BotasStateOptions)]) {
      const error = await refused.then(() => t.fail(), (error) => error)
      t.match(error, { code: 'FST_BOTAS_STATE_INVALID_OPTION', statusCode: 500, message })
      t.ok(error instanceof errorCodes.FST_BOTAS_STATE_INVALID_OPTION)
    }
  })
}

t.test('a wrong option is refused before the storage is opened', async (t) => {
  const app = Fastify()
  let closed = 0
  const storage = Object.assign(new MemoryStorage(), { close: async () => { closed++ } })
  await t.rejects(async () => app.register(botasState, { storage, documents: { user: { version: { key: '' } } } }), { code: 'FST_BOTAS_STATE_INVALID_OPTION' })
  await app.close()
  t.equal(closed, 0)
  t.notOk(app.hasDecorator('botasState'))
})
