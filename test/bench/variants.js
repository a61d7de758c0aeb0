// What the benchmark compares: servers with the plugin, and the same written by hand or left out.
import { randomUUID } from 'node:crypto'
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import Fastify from 'fastify'
import botasState, { FileStorage, MemoryStorage, activityIdentity, encrypted } from 'fastify-botas-state'
import { inspector } from 'fastify-botas-state/inspector'
import { RedisStorage } from 'fastify-botas-state/redis'
import { Redis } from 'ioredis'
import pg from 'pg'
import { z } from 'zod'
import { blobContainer, cosmosContainer, openStorage } from '../processes/open-storage.js'

const countUp = (count = 0) => count + 1

/** Two counters, as in the counter bot: one for the conversation, one for the user. */
async function counter ({ state: { conversation, user } }) {
  return { turn: conversation.update('turnCount', countUp), message: user.update('messageCount', countUp) }
}

async function reader ({ state: { conversation, user } }) {
  return { turn: conversation.get('turnCount') ?? 0, message: user.get('messageCount') ?? 0 }
}

async function conversationCounter ({ state: { conversation } }) {
  return { turn: conversation.update('turnCount', countUp) }
}

async function nothing () {
  return { turn: 1, message: 1 }
}

/** How a bot keeps a history: 50 messages of 1,000 characters, of which the oldest makes room. */
const HISTORY = Array.from({ length: 50 }, (_, n) => said(n))
const MEMBERS = Object.fromEntries(Array.from({ length: 200 }, (_, n) => [`member${n}`, `${n}`.padEnd(1000, 'x')]))

function said (n) {
  return { role: n % 2 === 0 ? 'user' : 'assistant', text: `${n} `.padEnd(1000, 'What was said. ') }
}

const append = (history = HISTORY) => [...history, said(history.length)].slice(-50)

async function historian ({ state: { conversation } }) {
  return { messages: conversation.update('history', append).length }
}

const ENCRYPTION = { keys: { current: 'bench', bench: Buffer.alloc(32, 1) } }
const VERSION = { key: 'schemaVersion' }
const DOCUMENTS = {
  conversation: { schema: z.object({ turnCount: z.number() }), version: VERSION },
  user: { schema: z.object({ messageCount: z.number() }), version: VERSION }
}

async function withPlugin (options, handler) {
  const app = Fastify()
  await app.register(botasState, options)
  app.post('/', handler)
  return app
}

async function inspected (handler) {
  const app = await withPlugin({ storage: new MemoryStorage() }, handler)
  return app.register(inspector)
}

/** The load generator sends the same messages all the time: each gets an id of its own. */
function numbered () {
  let activities = 0
  return ({ body }) => {
    const identity = activityIdentity(body)
    return identity && { ...identity, activityId: `${activities++}` }
  }
}

function bare () {
  const app = Fastify()
  app.post('/', nothing)
  return app
}

/** What Fastify and Node take for the hooks that a turn needs, whatever is done in them. */
function emptyHooks () {
  const app = Fastify()
  app.decorateRequest('turn', null)
  app.addHook('preValidation', (request, reply, done) => {
    request.turn = {}
    reply.raw.on('close', () => { request.turn = null })
    done()
  })
  app.addHook('onError', (_request, _reply, _error, done) => done())
  app.addHook('onRoute', (route) => {
    const { handler } = route
    route.handler = function (request, reply) {
      const result = handler.call(this, request, reply)
      result.then(() => {}, () => {})
      return result
    }
    route.onSend = (_request, _reply, payload, done) => done(null, payload)
  })
  app.register(async (app) => { app.post('/', nothing) })
  return app
}

const keysOf = ({ channelId, recipient, conversation, from }) => [
  `${channelId}/${recipient.id}/conversations/${conversation.id}`, `${channelId}/${recipient.id}/users/${from.id}`
]

/** The counter turn as a bot's author would write it without the plugin. */
function byHand ({ load, save, flush }) {
  const app = Fastify()
  app.decorateRequest('changed', null)
  app.post('/', {
    onResponse: flush === 'onResponse' ? async ({ changed }) => save(changed) : []
  }, async (request) => {
    const keys = keysOf(request.body)
    const texts = await load(keys)
    const [conversation, user] = texts.map((text) => text ? JSON.parse(text) : {})
    conversation.turnCount = countUp(conversation.turnCount)
    user.messageCount = countUp(user.messageCount)
    const changed = [[keys[0], JSON.stringify(conversation)], [keys[1], JSON.stringify(user)]]
    if (flush === 'onResponse') request.changed = changed
    else await save(changed)
    return { turn: conversation.turnCount, message: user.messageCount }
  })
  return app
}

/** The history as one would write it by hand: one parse, one stringify. */
function historyByHand ({ load, save }) {
  const app = Fastify()
  app.decorateRequest('changed', null)
  app.post('/', { onResponse: async ({ changed }) => save(...changed) }, async (request) => {
    const [key] = keysOf(request.body)
    const text = await load(key)
    const conversation = text ? JSON.parse(text) : {}
    conversation.history = append(conversation.history)
    request.changed = [key, JSON.stringify(conversation)]
    return { messages: conversation.history.length }
  })
  return app
}

function memoryHistoryByHand () {
  const texts = new Map()
  return historyByHand({ load: (key) => texts.get(key), save: (key, text) => texts.set(key, text) })
}

function redisHistoryByHand (url) {
  const redis = new Redis(url, { enableAutoPipelining: true })
  return historyByHand({ load: (key) => redis.get(`botas:${key}`), save: (key, text) => redis.set(`botas:${key}`, text) })
}

function fileHistoryByHand (directory) {
  const { load, save } = filesIn(directory)
  return historyByHand({ load, save })
}

/** A storage in which every conversation has 200 KB of other members. */
async function besideMembers (storage) {
  for (let n = 0; n < 256; n++) await storage.write({ [`bench/bot/conversations/${n}`]: { ...MEMBERS, history: HISTORY } })
  return storage
}

function redisByHand (url, flush) {
  const redis = new Redis(url, { enableAutoPipelining: true })
  return byHand({
    load: (keys) => Promise.all(keys.map((key) => redis.get(`botas:${key}`))),
    save: (changed) => Promise.all(changed.map(([key, text]) => redis.set(`botas:${key}`, text))),
    flush
  })
}

function postgresByHand (url) {
  const pool = new pg.Pool({ connectionString: url })
  const ready = pool.query('CREATE TABLE IF NOT EXISTS by_hand (key text PRIMARY KEY, document text NOT NULL)')
  return byHand({
    async load (keys) {
      await ready
      const { rows } = await pool.query('SELECT key, document FROM by_hand WHERE key = ANY ($1)', [keys])
      return keys.map((key) => rows.find((row) => row.key === key)?.document)
    },
    save: (changed) => pool.query('INSERT INTO by_hand SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT (key) DO UPDATE SET document = excluded.document',
      [changed.map(([key]) => key), changed.map(([, text]) => text)]),
    flush: 'onResponse'
  })
}

/** The last write wins. */
function blobByHand (url) {
  const container = blobContainer(url)
  const clientOf = (key) => container.getBlockBlobClient(encodeURIComponent(key))
  return byHand({
    load: (keys) => Promise.all(keys.map((key) => clientOf(key).downloadToBuffer().then(String, ({ statusCode }) => {
      if (statusCode !== 404) throw new Error(`status ${statusCode}`)
    }))),
    save: (changed) => Promise.all(changed.map(([key, text]) => clientOf(key).upload(text, Buffer.byteLength(text)))),
    flush: 'onResponse'
  })
}

/** The last write wins. */
function cosmosByHand (url) {
  const container = cosmosContainer(url)
  const idOf = (key) => `by hand ${key.replaceAll('/', '|')}`
  return byHand({
    load: (keys) => Promise.all(keys.map(async (key) => (await container.item(idOf(key), idOf(key)).read()).resource?.text)),
    save: (changed) => Promise.all(changed.map(([key, text]) => container.items.upsert({ id: idOf(key), text }))),
    flush: 'onResponse'
  })
}

function getsByHand (url) {
  const redis = new Redis(url, { enableAutoPipelining: true })
  const app = Fastify()
  app.post('/', async (request) => {
    const texts = await Promise.all(keysOf(request.body).map((key) => redis.get(`botas:${key}`)))
    return { turn: texts.length }
  })
  return app
}

function filesIn (directory) {
  const pathOf = (key) => join(directory, `${encodeURIComponent(key)}.json`)
  return {
    load: (key) => readFile(pathOf(key), 'utf8').catch((error) => {
      if (error.code !== 'ENOENT') throw error
    }),
    async save (key, text) {
      const aside = join(directory, `${randomUUID()}.tmp`)
      const file = await open(aside, 'wx')
      await file.writeFile(text)
      await file.sync()
      await file.close()
      await rename(aside, pathOf(key))
    }
  }
}

function filesByHand (directory) {
  const { load, save } = filesIn(directory)
  return byHand({
    load: (keys) => Promise.all(keys.map(load)),
    save: (changed) => Promise.all(changed.map(([key, text]) => save(key, text))),
    flush: 'onResponse'
  })
}

/** A storage with so many conversations and users in it. */
async function filled (storage, documents) {
  const BATCH = 10_000
  for (let begin = 0; begin < documents; begin += BATCH) {
    const some = Array.from({ length: Math.min(BATCH, documents - begin) }, (_, n) => n + begin)
    await storage.write(Object.fromEntries(some.flatMap((n) => [
      [`bench/bot/conversations/${n}`, { turnCount: 1 }], [`bench/bot/users/${n}`, { messageCount: 1 }]
    ])))
  }
  return storage
}

/** A database of its own. */
const database = ({ REDIS }, number) => `${REDIS}/${number}`

async function withLargeDocument ({ REDIS }) {
  const storage = new RedisStorage(REDIS)
  const large = { history: Array.from({ length: 2048 }, (_, n) => ({ role: 'user', text: `${n}`.padEnd(97, 'x') })) }
  await storage.write({ 'bench/bot/users/with a large document': large })
  return storage
}

const stored = [1, 1000, 1_000_000].flatMap((count, index) => [
  [`memory with ${count} conversations`, async () => withPlugin({ storage: await filled(new MemoryStorage(), count) }, counter)],
  [`redis with ${count} conversations`, async (env) =>
    withPlugin({ storage: await filled(new RedisStorage(database(env, index + 1)), count) }, counter)]
])

export const variants = {
  bare,
  'empty hooks': emptyHooks,
  'memory counter': () => withPlugin({}, counter),
  'memory reader': async () => withPlugin({ storage: await filled(new MemoryStorage(), 1000) }, reader),
  'no turn': () => withPlugin({}, nothing),
  'redis counter': ({ REDIS }) => withPlugin({ storage: REDIS }, counter),
  'redis counter by hand': ({ REDIS }) => redisByHand(REDIS, 'onResponse'),
  'redis counter, onSend': ({ REDIS }) => withPlugin({ storage: REDIS, flush: 'onSend' }, counter),
  'redis counter by hand, before the reply': ({ REDIS }) => redisByHand(REDIS, 'before'),
  'redis counter, queue': ({ REDIS }) => withPlugin({ storage: REDIS, concurrency: 'queue' }, counter),
  'redis counter, once': ({ REDIS }) => withPlugin({ storage: REDIS, once: true, identify: numbered() }, counter),
  'redis counter, encrypted': ({ REDIS }) => withPlugin({ storage: encrypted(new RedisStorage(database({ REDIS }, 7)), ENCRYPTION) }, counter),
  'redis history, encrypted': ({ REDIS }) => withPlugin({ storage: encrypted(new RedisStorage(database({ REDIS }, 8)), ENCRYPTION) }, historian),
  'memory counter, schema': () => withPlugin({ documents: DOCUMENTS }, counter),
  'memory counter, inspected': () => inspected(counter),
  'postgres counter': ({ POSTGRES }) => withPlugin({ storage: POSTGRES }, counter),
  'postgres counter by hand': ({ POSTGRES }) => postgresByHand(POSTGRES),
  'blob counter': ({ BLOB }) => withPlugin({ storage: openStorage(BLOB) }, counter),
  'blob counter by hand': ({ BLOB }) => blobByHand(BLOB),
  'cosmos counter': ({ COSMOS }) => withPlugin({ storage: openStorage(COSMOS) }, counter),
  'cosmos counter by hand': ({ COSMOS }) => cosmosByHand(COSMOS),
  'redis conversation counter': async (env) => withPlugin({ storage: await withLargeDocument(env) }, conversationCounter),
  'redis GETs by hand': async (env) => {
    await withLargeDocument(env)
    return getsByHand(env.REDIS)
  },
  'memory history': () => withPlugin({}, historian),
  'memory history by hand': memoryHistoryByHand,
  'redis history': (env) => withPlugin({ storage: database(env, 4) }, historian),
  'redis history by hand': (env) => redisHistoryByHand(database(env, 4)),
  'redis history beside members': async (env) => withPlugin({ storage: await besideMembers(new RedisStorage(database(env, 5))) }, historian),
  'redis history beside members by hand': async (env) => {
    await besideMembers(new RedisStorage(database(env, 6)))
    return redisHistoryByHand(database(env, 6))
  },
  'file history': ({ DIRECTORY }) => withPlugin({ storage: new FileStorage(join(DIRECTORY, 'history')) }, historian),
  'file history by hand': async ({ DIRECTORY }) => {
    await mkdir(join(DIRECTORY, 'by hand'), { recursive: true })
    return fileHistoryByHand(join(DIRECTORY, 'by hand'))
  },
  'file counter': ({ DIRECTORY }) => withPlugin({ storage: new FileStorage(DIRECTORY) }, counter),
  'file counter by hand': ({ DIRECTORY }) => filesByHand(DIRECTORY),
  ...Object.fromEntries(stored)
}
