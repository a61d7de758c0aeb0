import { setTimeout as wait } from 'node:timers/promises'
import { inspect } from 'node:util'
import type { Container } from '@azure/cosmos'
import t, { type Test } from 'tap'
import { type CosmosContainer, CosmosDbStorage } from '../../../lib/storage/cosmos/cosmos-storage.js'
import { itemId } from '../../../lib/storage/cosmos/cosmos-link.js'
import { message } from '../../helpers/activities.js'
import { cosmosContainer, createCosmosContainer } from '../../helpers/azure-servers.js'
import { type Asked, azureWay } from '../../helpers/azure-way.js'
import { buildFastify, post } from '../../helpers/build-fastify.js'
import { cosmosPort, freshCosmosContainer } from '../../helpers/shared-servers.js'
import { EMULATED_AT_A_TIME, storageSuite } from '../../helpers/storage-suite.js'

const IDENTITY = { channelId: 'test', botId: 'bot', conversationId: 'c', userId: 'u' }
const CONVERSATION = 'test/bot/conversations/c'

/** A storage behind a proxy, on a container of its own. */
async function open (t: Test, options: { ttl?: number, renew?: 'load' } = {}) {
  const container = await freshCosmosContainer()
  const way = await azureWay(t, await cosmosPort())
  return { container, way, storage: new CosmosDbStorage(cosmosContainer(way.port, container.id), options), direct: new CosmosDbStorage(container) }
}

async function itemsIn (container: Container) {
  return (await container.items.readAll().fetchAll()).resources
}

const isOfItem = ({ url = '' }: Asked): boolean => /\/docs/.test(url)

t.test('what every storage promises', async (t) => storageSuite(t, async (_t, options) => new CosmosDbStorage(await freshCosmosContainer(), options), EMULATED_AT_A_TIME))

t.test('a document is an item with its very text', async (t) => {
  const container = await freshCosmosContainer()
  const storage = new CosmosDbStorage(container)
  await storage.write({ 'c/b/users/Zoë': { name: 'Zoë' } })
  const [item] = await itemsIn(container)
  t.match(item, { id: 'c=2Fb=2Fusers=2FZo=C3=AB', key: 'c/b/users/Zoë', text: '{"name":"Zoë"}', mark: /^\S+:\d+$/ })
  t.notOk('ttl' in (item ?? {}) || 'expires' in (item ?? {}), 'it does not expire')
  await container.item(item?.id as string, item?.id).replace({ ...item, id: item?.id as string, text: '{"float":1.0,"long":9007199254740993}' })
  await storage.update('c/b/users/Zoë', (current) => ({ ...current, n: 1 }))
  t.match(await itemsIn(container), [{ text: '{"float":1.0,"long":9007199254740993,"n":1}' }])
})

t.test('ids keep to what Cosmos DB allows, and no two keys have the same', async (t) => {
  const container = await freshCosmosContainer()
  const storage = new CosmosDbStorage(container)
  const keys = ['..', '.', '...', 'a/b', 'a\\b', 'a?b', 'a#b', 'a%2Fb', 'a=2Fb', 'a b ', 'x'.repeat(3000), `${'x'.repeat(3000)}y`, '🤖'.repeat(100), '=='.repeat(200), ' ']
  await storage.write(Object.fromEntries(keys.map((key, n) => [key, { n }])))
  t.strictSame(await storage.read(keys), Object.fromEntries(keys.map((key, n) => [key, { n }])))
  await storage.delete(['..', '.'])
  t.equal((await itemsIn(container)).length, keys.length - 2, 'the container is still there')
  t.ok(keys.map(itemId).every((id) => id.length <= 255 && /^[\w.~=-]+$/.test(id) && !/^\.+$/.test(id)))
  await t.rejects(storage.write({ 'half \ud800': {} }), { code: 'FST_BOTAS_STATE_INVALID_ID' })
})

t.test('a container or database that is missing, or has another partition key, is an error that says so, not an empty state', async (t) => {
  const port = await cosmosPort()
  const missing = new CosmosDbStorage(cosmosContainer(port, 'missing'))
  const { url, app } = await buildFastify(t, { storage: missing }, (app) => { app.post('/', async () => ({})) })
  t.match(await post(url, message()), { status: 500, body: { code: 'FST_BOTAS_STATE_LOAD_FAILED' } })
  t.match(app.botasState.stats.lastError, { message: /Azure Cosmos DB: there is no container "missing", or no database: create it first \(status 404\)/ })
  await createCosmosContainer(port, 'missing')
  t.equal((await post(url, message())).status, 200, 'it is looked for again')

  const other = new CosmosDbStorage(await createCosmosContainer(port, 'other', '/key'))
  for (const work of [other.read(['key']), other.write({ key: {} })]) {
    await t.rejects(work as Promise<unknown>, { message: 'Azure Cosmos DB: the container "other" must have the partition key /id, it has /key' })
  }

  const unknown = await open(t)
  unknown.way.fail(({ method }) => method === 'GET' ? { status: 200, headers: { 'content-type': 'application/json' }, body: '{}' } : undefined)
  await t.rejects(unknown.storage.read(['key']), { message: /must have the partition key \/id, it has none/ })

  // What the emulator does not tell: the container was removed meanwhile.
  const { way, storage } = await open(t)
  await storage.write({ key: { n: 1 } })
  way.fail((request) => isOfItem(request) ? { status: 404, headers: { 'x-ms-substatus': '1003', 'content-type': 'application/json' }, body: '{"code":"NotFound","message":"Owner resource does not exist"}' } : undefined)
  await t.rejects(storage.read(['key']), { message: /there is no container/ })
  await t.rejects(storage.update('key', () => ({ n: 2 })), { message: /there is no container/ })
  await t.rejects(storage.delete(['key']), { message: /there is no container/ })
})

t.test('a session that is not there yet is no empty state: it is asked for again', async (t) => {
  const { way, storage } = await open(t)
  await storage.write({ [CONVERSATION]: { n: 1 } })
  const { app } = await buildFastify(t, { storage }, () => {})
  let refused = 0
  way.fail((request) => isOfItem(request) && refused++ < 2 ? { status: 404, headers: { 'x-ms-substatus': '1002', 'content-type': 'application/json' }, body: '{"message":"Session not available"}' } : undefined)
  t.equal(await app.botasState.run(IDENTITY, ({ conversation }) => conversation.get('n')), 1)
  t.ok(refused > 2)
})

t.test('throttling is honoured: what was refused is asked for again when it may be, and done once', async (t) => {
  const { way, storage, direct } = await open(t)
  const { app } = await buildFastify(t, { storage }, () => {})
  const count = () => app.botasState.run(IDENTITY, ({ conversation }) => conversation.update<number>('n', (n = 0) => n + 1))
  await count()
  const throttled: number[] = []
  way.fail((request) => {
    if (!isOfItem(request) || throttled.length >= 4) return undefined
    throttled.push(performance.now())
    return { status: 429, headers: { 'x-ms-retry-after-ms': '300', 'content-type': 'application/json' }, body: '{"code":"TooManyRequests"}' }
  })
  const begun = performance.now()
  t.equal(await count(), 2)
  t.ok(performance.now() - begun >= 600, 'two loads at once, twice')
  t.strictSame(await direct.read([CONVERSATION]), { [CONVERSATION]: { n: 2 } })
  t.match(app.botasState.stats, { outage: null, loadFailures: 0 })
  t.ok(app.botasState.stats.loadRetries >= 2)
})

t.test('a conflict that is not one, 449, and errors of the service are passing', async (t) => {
  const { way, storage, direct } = await open(t)
  const { app } = await buildFastify(t, { storage }, () => {})
  for (const [n, status] of [449, 500, 503, 410].entries()) {
    let failed = 0
    // It was done, and the answer says otherwise.
    way.fail((request) => isOfItem(request) && request.method !== 'GET' && failed++ < 1
      ? { status, isDone: true, headers: { 'content-type': 'application/json' }, body: '{}' }
      : undefined)
    t.equal(await app.botasState.run(IDENTITY, ({ conversation }) => conversation.update<number>('n', (n = 0) => n + 1)), n + 1)
    t.strictSame(await direct.read([CONVERSATION]), { [CONVERSATION]: { n: n + 1 } })
  }
})

t.test('wrong credentials and documents that are too large are an error at once, without the key or a value', async (t) => {
  const { way, storage } = await open(t)
  await storage.read(['key'])
  for (const [status, expected] of [
    [401, 'Azure Cosmos DB: the key or token is not accepted (status 401)'],
    [403, 'Azure Cosmos DB: the key or token may not read, create, replace and delete items of the container (status 403)'],
    [413, 'Azure Cosmos DB: the document is larger than an item may be, 2 MB (status 413)']
  ] as const) {
    way.fail((request) => isOfItem(request) ? { status, headers: { 'content-type': 'application/json' }, body: '{"message":"state-value"}' } : undefined)
    const error = await storage.update('key', () => ({ secret: 'state-value' })).then(() => t.fail('written'), (error) => error)
    t.equal(error.message, expected)
    t.notMatch(inspect(error, { depth: Infinity, showHidden: true }), /state-value|type%3dmaster|http:/)
  }
})

t.test('with a ttl the container is told when to remove the item, which is over by its own date', async (t) => {
  const { container, storage } = await open(t, { ttl: 2, renew: 'load' })
  await storage.write({ key: { n: 1 } })
  t.match(await itemsIn(container), [{ ttl: 3, expires: Number }])
  const longest = await open(t, { ttl: 2_147_483_647 })
  await longest.storage.write({ key: { n: 1 } })
  t.match(await itemsIn(longest.container), [{ ttl: 2_147_483_647 }])
  await wait(1200)
  const [before] = await itemsIn(container)
  t.strictSame(await storage.read(['key']), { key: { n: 1 } })
  const [after] = await itemsIn(container)
  t.ok(after?.expires - before?.expires > 1000, 'reading renews it')
  await wait(2100)
  t.strictSame(await storage.read(['key']), {})
  t.equal((await itemsIn(container)).length, 1, 'the emulator removes nothing')
})

t.test('a load that renews a document which somebody saves at the same time loads what was saved', async (t) => {
  const { way, storage, direct } = await open(t, { ttl: 60, renew: 'load' })
  await storage.write({ key: { n: 1 } })
  let isBetween = false
  way.fail(({ method }) => {
    if (method !== 'PUT' || isBetween) return undefined
    isBetween = true
    return { status: 412, headers: { 'content-type': 'application/json' }, body: '{}' }
  })
  await direct.write({ key: { n: 2 } })
  t.strictSame(await storage.read(['key']), { key: { n: 2 } })
})

t.test('an item that is no document fails the turn that touches it, and can be cleared', async (t) => {
  const container = await freshCosmosContainer()
  const storage = new CosmosDbStorage(container)
  await container.items.create({ id: itemId(CONVERSATION), somebody: 'else\'s', expires: 1 })
  const { app } = await buildFastify(t, { storage }, () => {})
  for (const one of [app, (await buildFastify(t, { storage: new CosmosDbStorage(container, { ttl: 60, renew: 'load' }) }, () => {})).app]) {
    await t.rejects(one.botasState.run(IDENTITY, ({ conversation }) => conversation.set('n', 1)), { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT' })
    t.match(await itemsIn(container), [{ somebody: 'else\'s', ttl: undefined }])
  }
  await app.botasState.run(IDENTITY, ({ conversation }) => conversation.clear())
  t.strictSame(await itemsIn(container), [])
})

t.test('where the service does not tell the time, that of the machine counts', async (t) => {
  const { way, storage } = await open(t, { ttl: 1 })
  way.hideTime()
  await storage.write({ key: { n: 1 } })
  t.strictSame(await storage.read(['key']), { key: { n: 1 } })
  await wait(1100)
  t.strictSame(await storage.read(['key']), {})
})

t.test('once is refused by name, for an item is written for itself', async (t) => {
  const storage = new CosmosDbStorage(await freshCosmosContainer())
  await t.rejects(buildFastify(t, { storage, once: true }, () => {}), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /CosmosDbStorage/ })
})

t.test('what is no container is refused', async (t) => {
  for (const wrong of [undefined, {}, { item () {} }, 'AccountEndpoint=https://x;AccountKey=hunter2', 1]) {
    t.throws(() => new CosmosDbStorage(wrong as unknown as CosmosContainer), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /"container" must be a Container of @azure\/cosmos/ })
  }
})
