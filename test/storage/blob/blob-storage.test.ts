import { setTimeout as wait } from 'node:timers/promises'
import { inspect } from 'node:util'
import { BlobServiceClient, type ContainerClient, StorageSharedKeyCredential } from '@azure/storage-blob'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { type BlobContainer, BlobStorage } from '../../../lib/storage/blob/blob-storage.js'
import { blobName } from '../../../lib/storage/blob/blob-link.js'
import { documentStoreOf } from '../../../lib/storage/document-store.js'
import { CONVERSATION_KEY, message } from '../../helpers/activities.js'
import { blobContainer } from '../../helpers/azure-servers.js'
import { type Asked, azureWay } from '../../helpers/azure-way.js'
import { buildFastify, post, settled } from '../../helpers/build-fastify.js'
import { freshBlobContainer } from '../../helpers/shared-servers.js'
import { EMULATED_AT_A_TIME, storageSuite } from '../../helpers/storage-suite.js'

const IDENTITY = { channelId: 'test', botId: 'bot', conversationId: 'c', userId: 'u' }
const CONVERSATION = 'test/bot/conversations/c'

/** A storage behind a proxy, on a container of its own. */
async function open (t: Test, client: (container: ContainerClient, port: number) => ContainerClient = (container) => container) {
  const container = await freshBlobContainer()
  const way = await azureWay(t, Number(new URL(container.url).port))
  const through = client(blobContainer(way.port, container.containerName), way.port)
  return { container, way, storage: new BlobStorage(through), direct: new BlobStorage(container) }
}

const EMPTY_PAGE = '<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="http://127.0.0.1/" ContainerName="state"><Blobs></Blobs><NextMarker>a</NextMarker></EnumerationResults>'

/** The names of the blobs of documents, and of what stands beside them. */
async function namesIn (container: ContainerClient): Promise<string[]> {
  const names = []
  for await (const { name } of container.listBlobsFlat()) names.push(name)
  return names
}

t.test('what every storage promises', async (t) => storageSuite(t, async (_t, options) => new BlobStorage(await freshBlobContainer(), options), EMULATED_AT_A_TIME))

t.test('a document is a blob with its very text, named as a file would be', async (t) => {
  const container = await freshBlobContainer()
  const storage = new BlobStorage(container, { prefix: 'bots/' })
  await storage.write({ 'c/b/users/Zoë': { name: 'Zoë' } })
  t.strictSame(await namesIn(container), ['bots/c%2Fb%2Fusers%2FZo%C3%AB.json'])
  const blob = container.getBlockBlobClient('bots/c%2Fb%2Fusers%2FZo%C3%AB.json')
  t.equal((await blob.downloadToBuffer()).toString(), '{"name":"Zoë"}')
  t.equal((await blob.getProperties()).contentType, 'application/json; charset=utf-8')
  await blob.upload('{"float":1.0,"long":9007199254740993}', 37)
  await storage.update('c/b/users/Zoë', (current) => ({ ...current, n: 1 }))
  t.equal((await blob.downloadToBuffer()).toString(), '{"float":1.0,"long":9007199254740993,"n":1}')
})

t.test('no key reaches another container, or the blob of another key', async (t) => {
  const container = await freshBlobContainer()
  const storage = new BlobStorage(container)
  const keys = ['a/../../other/secret', '..', '.', 'a\\b', 'a/b', 'trail/.', 'trail/', '/a', 'a', '%2e%2e', '?comp=list', '#', 'x'.repeat(5000), `${'x'.repeat(5000)}y`, 'a.json', '🤖'.repeat(300), ' ']
  await storage.write(Object.fromEntries(keys.map((key, n) => [key, { n }])))
  t.strictSame(await storage.read(keys), Object.fromEntries(keys.map((key, n) => [key, { n }])))
  const names = await namesIn(container)
  t.equal(names.length, keys.length)
  t.ok(names.every((name) => name.length <= 1024 && /^[\w.~%=-]+\.json$/.test(name)))
  await t.rejects(storage.write({ 'half \ud800': {} }), { code: 'FST_BOTAS_STATE_INVALID_ID' })
})

t.test('a container that is missing is an error that names it, not an empty state', async (t) => {
  const container = await freshBlobContainer()
  const storage = new BlobStorage(blobContainer(Number(new URL(container.url).port), 'missing'))
  const { url, app } = await buildFastify(t, { storage }, (app) => { app.post('/', async () => ({})) })
  t.match(await post(url, message()), { status: 500, body: { code: 'FST_BOTAS_STATE_LOAD_FAILED' } })
  t.match(app.botasState.stats.lastError, { message: /Azure Blob Storage: there is no container "missing": create it first \(status 404, ContainerNotFound\)/ })
  await t.rejects(storage.write({ key: {} }), { message: /there is no container "missing"/ })
})

t.test('wrong credentials are an error at once, without the signature, the URL or a value', async (t) => {
  const container = await freshBlobContainer()
  const wrong = blobContainer(Number(new URL(container.url).port), container.containerName, Buffer.from('hunter2').toString('base64'))
  const storage = new BlobStorage(wrong)
  const error = await storage.write({ key: { secret: 'state-value' } }).then(() => t.fail('written'), (error) => error)
  t.equal(error.message, 'Azure Blob Storage: the credential is not accepted, or may not read, write and delete blobs of the container (status 403, AuthorizationFailure)')
  t.notMatch(inspect(error, { depth: Infinity, showHidden: true }), /hunter2|aHVudGVyMg|state-value|http:/)
})

t.test('while the service is overloaded it is asked again when it wants to be', async (t) => {
  const { way, storage } = await open(t)
  const { app } = await buildFastify(t, { storage }, () => {})
  const waits = [() => '1', () => new Date(Date.now() + 2000).toUTCString()]
  for (const [n, [status, after]] of [[503, waits[0]], [429, waits[1]]].entries() as IterableIterator<[number, [number, () => string]]>) {
    let refused = 0
    way.fail(() => refused++ < 2 ? { status, headers: { 'retry-after': after() } } : undefined)
    const before = performance.now()
    t.equal(await app.botasState.run(IDENTITY, ({ conversation }) => conversation.update<number>('n', (n = 0) => n + 1)), n + 1)
    t.ok(performance.now() - before > 900, `${status}: ${Math.round(performance.now() - before)} ms`)
    t.match(app.botasState.stats, { outage: null, loadFailures: 0 })
  }
})

t.test('a service that wants to be left alone for long is not asked again and again', async (t) => {
  const { way, storage } = await open(t)
  const { app } = await buildFastify(t, { storage, loadTimeout: 500 }, () => {})
  way.fail(() => ({ status: 503, headers: { 'retry-after': '2200000' } }))
  await t.rejects(app.botasState.run(IDENTITY, () => {}), { code: 'FST_BOTAS_STATE_LOAD_FAILED' })
  t.equal(way.asked.length, 2, 'once for each document')
})

t.test('a turn that is throttled for longer than it waits fails with the reason, and is no outage', async (t) => {
  const { way, storage } = await open(t)
  const { app, log } = await buildFastify(t, { storage, loadTimeout: 500 }, () => {})
  // Slow, so that the caller gives up while it is asked again.
  way.fail(() => ({ status: 429, delay: 150 }))
  await Promise.all(Array.from({ length: 10 }, async (_, n) => {
    await t.rejects(app.botasState.run({ ...IDENTITY, conversationId: String(n) }, () => {}), { code: 'FST_BOTAS_STATE_LOAD_FAILED', cause: { message: /status 429/ } })
  }))
  t.match(app.botasState.stats, { outage: null, loadFailures: 10 })
  t.strictSame(log, [])
})

t.test('an answer that breaks off is asked for again, also where the blob is another one by then', async (t) => {
  const { way, storage } = await open(t)
  await storage.write({ [CONVERSATION]: { text: 'x'.repeat(10_000) } })
  let cut = 0
  const body = '<?xml version="1.0"?><Error><Code>ConditionNotMet</Code><Message>It has changed</Message></Error>'
  const changed = { status: 412, headers: { 'content-type': 'application/xml', 'x-ms-error-code': 'ConditionNotMet' }, body }
  way.fail(({ method }) => method === 'GET' && cut++ < 5 ? (cut % 2 === 0 ? changed : 'cut') : undefined)
  const { app } = await buildFastify(t, { storage }, () => {})
  t.equal((await app.botasState.run(IDENTITY, ({ conversation }) => conversation.get<string>('text')))?.length, 10_000)
  t.equal(app.botasState.stats.outage, null)
})

t.test('a read or write may be about many documents', async (t) => {
  const { way, storage } = await open(t)
  const warnings: Error[] = []
  const listener = (warning: Error) => { warnings.push(warning) }
  process.on('warning', listener)
  t.teardown(() => process.off('warning', listener))
  const documents = Object.fromEntries(Array.from({ length: 40 }, (_, n) => [String(n), { n }]))
  let refused = 0
  way.fail(() => refused++ < 60 ? { status: 503 } : undefined)
  await storage.write(documents, { signal: new AbortController().signal, retrying () {} })
  t.strictSame(await storage.read(Object.keys(documents)), documents)
  await wait(10)
  t.strictSame(warnings, [])
})

t.test('the clock of the service counts from the first write on', async (t) => {
  const { way, container } = await open(t)
  way.shiftTime(2 * 3_600_000)
  const openAnother = () => new BlobStorage(blobContainer(way.port, container.containerName), { ttl: 3600 })
  await openAnother().write({ key: { n: 1 } })
  t.strictSame(await openAnother().read(['key']), { key: { n: 1 } })
})

t.test('of two documents of a turn one may be saved where the service refuses the other, which is told', async (t) => {
  const { way, storage, direct } = await open(t)
  const { app } = await buildFastify(t, { storage }, () => {})
  way.fail(({ method, url = '' }) => method === 'PUT' && url.includes('users') ? { status: 403 } : undefined)
  await t.rejects(app.botasState.run(IDENTITY, ({ conversation, user }) => {
    conversation.set('n', 1)
    user.set('n', 1)
  }), { code: 'FST_BOTAS_STATE_SAVE_FAILED', message: /saved: "test\/bot\/conversations\/c"; not known to be saved: "test\/bot\/users\/u"/ })
  t.strictSame(await direct.read([CONVERSATION, 'test/bot/users/u']), { [CONVERSATION]: { n: 1 } })
})

t.test('nobody asks a service that is out of reach for a bot that was closed', async (t) => {
  const { way, storage } = await open(t)
  const { app } = await buildFastify(t, { storage, loadTimeout: 3000 }, () => {})
  way.fail(() => 'silent')
  await t.rejects(app.botasState.run(IDENTITY, () => {}), { code: 'FST_BOTAS_STATE_LOAD_FAILED' })
  t.match(app.botasState.stats, { outage: { reason: 'Azure Blob Storage: the server does not answer' } })
  await app.close()
  await wait(2500)
  const asked = way.asked.length
  await wait(1000)
  t.equal(way.asked.length, asked)
  way.fail(() => undefined)
  const { app: next } = await buildFastify(t, { storage }, () => {})
  t.match(next.botasState.stats, { outage: { reason: 'Azure Blob Storage: the server does not answer' } })
  await settled(() => next.botasState.stats.outage === null)
})

t.test('a client of the user\'s that repeats by itself does not make a conflict of our success', async (t) => {
  const { way, storage, direct } = await open(t, ({ containerName, credential }, port) =>
    new BlobServiceClient(`http://127.0.0.1:${port}/devstoreaccount1`, credential as StorageSharedKeyCredential,
      { retryOptions: { maxTries: 4, retryDelayInMs: 10, maxRetryDelayInMs: 20 } }).getContainerClient(containerName))
  const { app } = await buildFastify(t, { storage }, () => {})
  for (let n = 1; n <= 5; n++) {
    let failed = 0
    // The blob was written, and the answer says otherwise.
    way.fail(({ method }) => method === 'PUT' && failed++ < 2 ? { status: 500, isDone: true } : undefined)
    t.equal(await app.botasState.run(IDENTITY, ({ conversation }) => conversation.update<number>('n', (n = 0) => n + 1)), n)
    t.strictSame(await direct.read([CONVERSATION]), { [CONVERSATION]: { n } })
  }
})

t.test('what fails in another way is passed on as what it is', async (t) => {
  const { way, storage } = await open(t)
  for (const [fault, expected] of [
    [{ status: 409, headers: { 'content-type': 'application/xml' }, body: '<?xml version="1.0"?><Error><Code>BlobImmutableDueToPolicy</Code><Message>state-value</Message></Error>' }, /being changed, or is protected \(status 409, BlobImmutableDueToPolicy\)/],
    [{ status: 418 }, /the server refuses the request \(status 418\)/],
    [{ status: 413 }, /the document is too large \(status 413/]
  ] as const) {
    way.fail(({ method }) => method === 'PUT' ? fault : undefined)
    await t.rejects(storage.write({ key: { n: 1 } }), { message: expected })
  }
  const credential = { getToken: async () => { throw Object.assign(new Error('tenant hunter2'), { name: 'CredentialUnavailableError' }) } }
  const unable = new BlobServiceClient('https://127.0.0.1:1', credential).getContainerClient('state')
  await t.rejects(new BlobStorage(unable).read(['key']), { message: 'Azure Blob Storage: CredentialUnavailableError' })
})

t.test('a blob that is no document fails the turn that touches it, and can be cleared', async (t) => {
  const container = await freshBlobContainer()
  const storage = new BlobStorage(container)
  await container.getBlockBlobClient('test%2Fbot%2Fconversations%2Fc.json').upload('', 0)
  const { app } = await buildFastify(t, { storage }, () => {})
  await t.rejects(app.botasState.run(IDENTITY, ({ conversation }) => conversation.set('n', 1)), { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT' })
  await app.botasState.run(IDENTITY, ({ conversation }) => conversation.clear())
  t.strictSame(await namesIn(container), [])
})

t.test('prune removes what has expired, and nothing else, also of what stands beside documents', async (t) => {
  const container = await freshBlobContainer()
  const storage = new BlobStorage(container, { ttl: 1 })
  const { app } = await buildFastify(t, { storage, concurrency: 'queue' }, () => {})
  await app.botasState.run(IDENTITY, ({ conversation }) => conversation.set('n', 1))
  await storage.write({ old: {} })
  for (const [name, expires] of [['somebody\'s.txt', '1'], ['others.json', '2099-01-01T00:00:00Z'], ['another.json', '1']] as const) {
    await container.getBlockBlobClient(name).upload('', 0, { metadata: { expires } })
  }
  await new BlobStorage(container).write({ 'for ever': {} })
  await wait(2200)
  await storage.write({ fresh: {} })
  t.ok((await namesIn(container)).includes('old.json'), 'Azure removes nothing by itself')
  await storage.prune()
  t.strictSame(await namesIn(container), ['another.json', 'for%20ever.json', 'fresh.json', 'others.json', 'somebody\'s.txt'])
  t.strictSame(await storage.read(['old', 'fresh', 'for ever']), { fresh: {}, 'for ever': {} })
})

t.test('prune also removes the place of a process that died, long after', async (t) => {
  const { way, container, storage } = await open(t)
  const { holds } = documentStoreOf(storage)
  const hold = { key: CONVERSATION, holder: 'a-1', origin: 'a-', arrived: 1, lease: 300, place: { strategy: 'queue', isReplaceable: false }, activity: undefined } as const
  await holds?.enter(hold, [], { signal: new AbortController().signal, retrying () {} })
  t.equal((await namesIn(container)).length, 1)
  await storage.prune()
  t.equal((await namesIn(container)).length, 1)
  way.shiftTime(2 * 3_600_000)
  await storage.prune()
  t.strictSame(await namesIn(container), [])
})

t.test('prune goes through all pages, and tells in its own words what the service refuses', async (t) => {
  const { way, container } = await open(t)
  const storage = new BlobStorage(blobContainer(way.port, container.containerName), { ttl: 1, prefix: 'bot/' })
  await storage.write({ a: {}, b: {} })
  await wait(2200)
  const isList = ({ url = '' }: Asked): boolean => url.includes('comp=list')
  way.fail((request) => isList(request) ? { status: 403, body: 'hunter2' } : undefined)
  const error = await storage.prune().then(() => t.fail('pruned'), (error) => error)
  t.match(error.message, /^Azure Blob Storage: the credential is not accepted/)
  t.notMatch(inspect(error, { depth: Infinity, showHidden: true }), /hunter2|http:/)
  const lists: string[] = []
  way.fail((request) => {
    if (isList(request)) lists.push(request.url as string)
    return lists.length === 1 && isList(request) ? { status: 200, headers: { 'content-type': 'application/xml' }, body: EMPTY_PAGE } : undefined
  })
  await storage.prune()
  t.match(lists, [/prefix=bot/, /marker=a/])
  t.strictSame(await namesIn(container), [])
})

t.test('a turn that may be replaced, and is cut off until it was, saves nothing', async (t) => {
  const { way, container, storage, direct } = await open(t)
  const concurrency = { strategy: 'replace', lease: 600 } as const
  const routes = (app: FastifyInstance) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation, user } }) => {
      conversation.set(text, true)
      user.set(text, true)
    })
  }
  const first = await buildFastify(t, { storage, concurrency, flush: 'onSend' }, routes)
  const second = await buildFastify(t, { storage: new BlobStorage(container), concurrency, flush: 'onSend' }, routes)
  // The place is confirmed, and then nothing gets through until the lease is over and another turn was saved.
  let isCutOff = false
  way.fail(({ method, url = '' }) => {
    if (method === 'PUT' && url.includes('conversations') && !url.includes('place')) isCutOff = true
    return isCutOff ? { status: 503 } : undefined
  })
  const replaced = post(first.url, message({ text: 'first' }))
  await settled(() => isCutOff)
  t.equal((await post(second.url, message({ text: 'second' }))).status, 200)
  way.fail(() => undefined)
  t.match(await replaced, { status: 409, body: { code: 'FST_BOTAS_STATE_REPLACED' } })
  t.strictSame(Object.values(await direct.read([CONVERSATION_KEY, 'test/bot/users/user-1'])), [{ second: true }, { second: true }])
  t.equal(first.app.botasState.stats.replacedTurns, 1)
})

t.test('a turn that lost its place to another one is merged, or refused before anything of it is written', async (t) => {
  for (const concurrency of ['queue', 'replace'] as const) {
    const container = await freshBlobContainer()
    const place = container.getBlockBlobClient(blobName(`\0place\0${CONVERSATION_KEY}`, ''))
    const { app, url } = await buildFastify(t, { storage: new BlobStorage(container), concurrency, flush: 'onSend' }, (app) => {
      app.post('/', async ({ state: { conversation } }) => {
        conversation.set('n', 1)
        const line = `somebody:${Date.now() + 60_000}:0`
        await place.upload(line, line.length)
        return {}
      })
    })
    const isMerged = concurrency === 'queue'
    t.equal((await post(url, message())).status, isMerged ? 200 : 409)
    t.equal((await namesIn(container)).includes(blobName(CONVERSATION_KEY, '')), isMerged)
    t.match(app.botasState.stats, isMerged ? { leasesLost: 1 } : { replacedTurns: 1 })
  }
})

t.test('where the service does not tell the time, that of the machine counts', async (t) => {
  const { way, container } = await open(t)
  way.hideTime()
  const storage = new BlobStorage(blobContainer(way.port, container.containerName), { ttl: 1 })
  const { app } = await buildFastify(t, { storage, concurrency: 'queue' }, () => {})
  await app.botasState.run(IDENTITY, ({ conversation }) => conversation.set('n', 1))
  t.equal(await app.botasState.run(IDENTITY, ({ conversation }) => conversation.get('n')), 1)
  await wait(1100)
  t.equal(await app.botasState.run(IDENTITY, ({ conversation }) => conversation.get('n')), undefined)
})

t.test('once is refused by name, for a blob is written for itself', async (t) => {
  const storage = new BlobStorage(await freshBlobContainer())
  await t.rejects(buildFastify(t, { storage, once: true }, () => {}), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /BlobStorage/ })
})

t.test('options that are wrong are refused', async (t) => {
  const container = await freshBlobContainer()
  for (const wrong of [undefined, {}, 'https://account.blob.core.windows.net/state?sig=hunter2', 1]) {
    t.throws(() => new BlobStorage(wrong as unknown as BlobContainer), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /"container" must be a ContainerClient/ })
  }
  for (const prefix of ['/', 'a//', '../', 'a/../b', '.', 'ä', 'x'.repeat(513), 1 as unknown as string]) {
    t.throws(() => new BlobStorage(container, { prefix }), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /"prefix"/ })
  }
  t.throws(() => new BlobStorage(container, { renew: 'always' } as object), { code: 'FST_BOTAS_STATE_INVALID_OPTION', message: /"renew" must be "save" or "load", got "always"/ })
  const storage = new BlobStorage(container)
  await storage.close()
  await storage.write({ [CONVERSATION_KEY]: { n: 1 } })
  t.strictSame(await storage.read([CONVERSATION_KEY]), { [CONVERSATION_KEY]: { n: 1 } }, 'the client is the user\'s')
})
