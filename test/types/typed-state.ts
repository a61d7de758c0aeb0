// Checked by `npm run test:typescript`, never run: what compiles here must, and what is marked must not.
import Fastify, { type FastifyInstance } from 'fastify'
import botasState, {
  type BotasState, type BotasStateOptions, type DocumentsOptions, type FailingDocument, type StateDocument, type StateScope, type Storage,
  type TurnIdentity, type TurnState, type Upgrade, MemoryStorage, botasState as named, checkDocuments
} from 'fastify-botas-state'
import type { Container } from '@azure/cosmos'
import type { ContainerClient } from '@azure/storage-blob'
import { BlobStorage } from 'fastify-botas-state/blob'
import { CosmosDbStorage } from 'fastify-botas-state/cosmos'
import { PostgresStorage } from 'fastify-botas-state/postgres'
import { RedisStorage, type RedisStorageOptions } from 'fastify-botas-state/redis'
import { type } from 'arktype'
import type { Pool } from 'pg'
import * as v from 'valibot'
import { z } from 'zod'

declare module 'fastify-botas-state' {
  interface ConversationState {
    turnCount: number
    topic?: string
  }
  interface UserState {
    profile: { language: string }
  }
  interface TempState {
    requestId: string
  }
}

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false
function expectType<Expected> () {
  return <Actual>(_value: Actual, ..._equal: Equal<Expected, Actual> extends true ? [] : ['the types differ']) => {}
}

export function declaredKeys ({ conversation, user, temp, ...state }: TurnState) {
  expectType<number | undefined>()(conversation.get('turnCount'))
  expectType<string | undefined>()(conversation.get('topic'))
  expectType<{ language: string } | undefined>()(user.get('profile'))
  expectType<string | undefined>()(temp.get('requestId'))
  expectType<number | undefined>()(state.getValue('conversation.turnCount'))
  expectType<string | undefined>()(state.getValue('requestId'))
  expectType<string | undefined>()(state.getValue('temp.requestId'))

  conversation.set('turnCount', 1)
  conversation.set('turnCount', undefined)
  expectType<number>()(conversation.update('turnCount', (n) => (n ?? 0) + 1))
  expectType<number>()(state.updateValue('conversation.turnCount', (n) => (n ?? 0) + 1))
  state.setValue('user.profile', { language: 'en' })
  conversation.has('turnCount')
  conversation.delete('turnCount')

  // @ts-expect-error a number is declared
  conversation.set('turnCount', 'one')
  // @ts-expect-error a number is declared
  conversation.update('turnCount', () => 'one')
  // @ts-expect-error a number is declared
  state.setValue('conversation.turnCount', 'one')
  // @ts-expect-error a number is declared
  state.updateValue('conversation.turnCount', () => 'one')
  // @ts-expect-error a number is declared
  const text: string | undefined = conversation.get('turnCount')
  return text
}

export function theTurnItself (state: TurnState) {
  expectType<AbortSignal>()(state.signal)
  expectType<boolean>()(state.user.isAvailable)
  state.fail()
  state.fail(new Error('no'))
  state.waitUntil(Promise.resolve(1))
  // @ts-expect-error no promise
  state.waitUntil(1)
  // @ts-expect-error values are set by set()
  state.conversation.turnCount = 1
  // @ts-expect-error read-only
  state.user.isAvailable = true
}

export function everyScopeAndPath ({ conversation, user, temp, ...state }: TurnState) {
  for (const has of [conversation.has('topic'), user.has('profile'), temp.has('requestId'), state.hasValue('user.profile')]) expectType<boolean>()(has)
  for (const had of [conversation.delete('topic'), user.delete('profile'), temp.delete('requestId'), state.deleteValue('temp.requestId')]) expectType<boolean>()(had)
  expectType<{ language: string } | undefined>()(state.getValue('user.profile'))
  expectType<{ language: string }>()(user.update('profile', (profile) => ({ ...profile, language: 'en' })))
  expectType<string>()(temp.update('requestId', (id = '') => id + '.'))
  expectType<string>()(state.updateValue('requestId', (id) => id ?? ''))
  expectType<string | undefined>()(conversation.update('topic', (topic) => topic))
  temp.set('requestId', '1')
  state.setValue('requestId', '1')
  state.setValue('temp.requestId', undefined)

  // @ts-expect-error an object is declared
  user.set('profile', 'en')
  // @ts-expect-error its language is declared
  user.set('profile', { lang: 'en' })
  // @ts-expect-error a string is declared
  temp.set('requestId', 1)
  // @ts-expect-error a bare key is in temp
  state.setValue('requestId', 1)
  // @ts-expect-error a string is declared
  state.setValue('temp.requestId', 1)
  // @ts-expect-error an object is declared
  state.updateValue('user.profile', () => 'en')
  // @ts-expect-error null is not declared
  conversation.set('turnCount', null)
  // @ts-expect-error there is a value only if the key has one
  const count: number = conversation.get('turnCount')
  // @ts-expect-error a key is a string
  conversation.has(7)
  // @ts-expect-error a key is a string
  conversation.delete(Symbol('key'))
  // @ts-expect-error a path is a string
  state.hasValue(['user', 'profile'])
  // @ts-expect-error an update waits for nothing
  conversation.update('turnCount', async (n) => (n ?? 0) + 1)
  return count
}

export function otherScopes ({ user, temp, ...state }: TurnState) {
  // What is declared in one scope says nothing of the others.
  expectType<unknown>()(user.get('turnCount'))
  expectType<unknown>()(temp.get('turnCount'))
  expectType<unknown>()(state.getValue('turnCount'))
  expectType<unknown>()(state.getValue('user.turnCount'))
  user.set('turnCount', 'one')
}

export function undeclaredKeys ({ conversation, ...state }: TurnState, key: string) {
  expectType<string | undefined>()(conversation.get<string>('anything'))
  expectType<unknown>()(conversation.get('anything'))
  expectType<unknown>()(conversation.get(key))
  expectType<number>()(conversation.update<number>('anything', (n) => (n ?? 0) + 1))
  expectType<number>()(conversation.update('anything', (n: number = 0) => n + 1))
  expectType<string | undefined>()(state.getValue<string>('user.anything'))
  conversation.set('anything', { at: new Date() })
  conversation.set(key, 1)
  state.setValue(key, 1)
  expectType<boolean>()(conversation.has('anything'))
  expectType<boolean>()(conversation.delete(key))
  expectType<string[]>()(conversation.keys())
  expectType<StateDocument>()(conversation.toJSON())

  // @ts-expect-error a key is a string
  conversation.get(7)
  // @ts-expect-error the result has the type that was asked for
  conversation.update<number>('anything', () => 'one')
}

export function otherTypes (scope: StateScope, storage: Storage, identity: TurnIdentity, options: RedisStorageOptions) {
  scope.set('anything', 1)
  new RedisStorage('redis://localhost', options).update('key', (current) => ({ ...current, n: 1 }))
  return [storage.read([]), identity.conversationId]
}

/** The clients of the users are taken as they are, with the types of their packages. */
export function otherStorages (pool: Pool, blobs: ContainerClient, items: Container): Storage[] {
  // @ts-expect-error a storage has no such option
  new BlobStorage(blobs, { table: 'state' }).close()
  return [new PostgresStorage(pool, { ttl: 60, renew: 'load' }), new PostgresStorage('postgres://host/db'), new BlobStorage(blobs), new CosmosDbStorage(items)]
}

export function register (app: FastifyInstance, options: BotasStateOptions) {
  app.register(botasState)
  app.register(named, options)
  app.register(botasState, { storage: 'memory:', flush: 'onSend', loadTimeout: 1 })
  app.register(botasState, new MemoryStorage())
  app.register(botasState, { storage: new RedisStorage(), identify: async () => undefined })
  app.register(botasState, { storage: { read: async () => ({}), write: async () => {}, delete: async () => {} } })
  app.register(botasState, { identify: (request) => ({ channelId: 'c', botId: 'b', userId: String(request.headers['x-user']) }) })
  // @ts-expect-error there is no such moment
  app.register(botasState, { flush: 'later' })
  // @ts-expect-error an identity needs a bot
  app.register(botasState, { identify: () => ({ channelId: 'c' }) })
}

const rename: Upgrade = ({ nick, ...rest }) => ({ ...rest, name: nick })

export function schemasAndVersions (app: FastifyInstance) {
  app.register(botasState, { documents: { conversation: { schema: z.object({ topic: z.string() }) }, user: { schema: type({ 'name?': 'string' }) } } })
  app.register(botasState, { documents: { user: { schema: v.object({ name: v.string() }), version: { key: 'v' } }, conversation: undefined } })
  app.register(botasState, { documents: { user: { version: { key: 'v', upgrades: { 2: rename, 3: (document) => document } } } } })
  const change: Upgrade = (document) => {
    expectType<StateDocument>()(document)
    document.n = 1
    return document
  }
  const documents: DocumentsOptions = { user: { version: { key: 'v', upgrades: { 2: change } } } }
  // @ts-expect-error an upgrade is synchronous
  app.register(botasState, { documents: { user: { version: { key: 'v', upgrades: { 2: async (document: StateDocument) => document } } } } })
  // @ts-expect-error an upgrade gives the document
  app.register(botasState, { documents: { user: { version: { key: 'v', upgrades: { 2: () => {} } } } } })
  // @ts-expect-error versions are numbers
  app.register(botasState, { documents: { user: { version: { key: 'v', upgrades: { two: rename } } } } })
  // @ts-expect-error the member has a name
  app.register(botasState, { documents: { user: { version: { upgrades: { 2: rename } } } } })
  // @ts-expect-error temp is not stored
  app.register(botasState, { documents: { temp: { schema: z.object({}) } } })
  // @ts-expect-error JSON Schema is no Standard Schema
  app.register(botasState, { documents: { user: { schema: { type: 'object' } } } })
  return documents
}

export async function dryRun (storage: Storage, keys: AsyncIterable<string>, documents: DocumentsOptions, options: BotasStateOptions) {
  const failing = await checkDocuments(storage, keys, { documents })
  expectType<FailingDocument[]>()(failing)
  for (const { key, code, message } of failing) expectType<string[]>()([key, code, message])
  await checkDocuments(storage, ['key'], documents)
  await checkDocuments(storage, new Set(['key']), options)
  await checkDocuments(storage, ['key'], { storage, flush: 'onSend', documents })
  // @ts-expect-error the option is called documents
  await checkDocuments(storage, ['key'], { document: documents })
  // @ts-expect-error a storage, not its URL
  await checkDocuments('memory:', keys, documents)
  // @ts-expect-error keys are texts
  await checkDocuments(storage, [1], documents)
}

export async function decorations () {
  const app = Fastify()
  expectType<BotasState>()(app.botasState)
  expectType<Storage>()(app.botasState.storage)
  app.get('/', async (request) => {
    expectType<TurnState>()(request.state)
    // @ts-expect-error the state is the plugin's
    request.state = undefined
  })
  expectType<string>()(await app.botasState.run({ channelId: 'c', botId: 'b' }, async (state) => state.temp.get('requestId') ?? ''))
}
