import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { FST_BOTAS_STATE_INVALID_OPTION, FST_BOTAS_STATE_NOT_LOCAL } from '../errors.js'
import { kNoTurns } from '../fastify/request-turns.js'
import { isGone } from '../fastify/response-end.js'
import { describeType } from '../document/describe-type.js'
import { documentStoreOf } from '../storage/document-store.js'
import { assertKnownOptions, invalidOption } from '../storage/option-checks.js'
import type { Storage } from '../storage/storage.js'
import { type Turns, kTurns } from '../turn/turns.js'
import { InspectedTurns } from './inspected-turns.js'
import { LivePages } from './live-pages.js'
import { isCrossOrigin, notLocal } from './local-only.js'
import { CONTENT_SECURITY_POLICY, type PageFile, pageFiles } from './page-files.js'
import { shownDocument } from './shown-document.js'

/** The options of the inspector. */
export interface InspectorOptions {
  /** Where the page is, as of every plugin of Fastify's. Default `/inspector`. */
  prefix?: string
  /** Whether it may be registered with `NODE_ENV=production`, which is refused otherwise. Default `false`. */
  allow?: boolean | undefined
}

const DEFAULT_PREFIX = '/inspector'
/** The levels at which each request is logged. */
const TALKATIVE = new Set<string>(['trace', 'debug', 'info'])

const plugin: FastifyPluginAsync<InspectorOptions> = async (fastify, options) => {
  checkOptions(options)
  const { [kTurns]: server, storage } = fastify.botasState as unknown as { [kTurns]: Turns, storage: Storage }
  if (server.isWatched) throw new FST_BOTAS_STATE_INVALID_OPTION('the inspector is registered already: register it once')
  const turns = new InspectedTurns(() => pages.changed())
  const pages = new LivePages(turns)
  server.watchWith((hasClient) => turns.begin(hasClient))
  fastify.addHook('preClose', async () => pages.close())
  await fastify.register(async (scope) => {
    markRoutes(scope)
    addGuards(scope)
    addPage(scope, pageFiles())
    addData(scope, turns, pages, storage)
  }, { prefix: options.prefix === undefined ? DEFAULT_PREFIX : '' })
}

function checkOptions (options: InspectorOptions): void {
  assertKnownOptions(options, ['prefix', 'allow'], ['logLevel', 'logSerializers'])
  const { allow } = options
  if (allow !== undefined && typeof allow !== 'boolean') throw invalidOption('allow', 'true or false', describeType(allow))
  if (allow === true || process.env.NODE_ENV !== 'production') return
  throw new FST_BOTAS_STATE_INVALID_OPTION('the inspector shows what users have said, and is not registered with NODE_ENV=production: ' +
    'leave it out there, or allow it by { allow: true }')
}

/** Their requests are no turns, and need no log lines of their own: the page asks often. */
function markRoutes (scope: FastifyInstance): void {
  scope.addHook('onRoute', (route) => {
    if (TALKATIVE.has(scope.log.level)) route.logLevel ||= 'warn'
    route.config = Object.assign({}, route.config, { [kNoTurns]: true })
    // Understood by @fastify/swagger.
    route.schema = { ...route.schema, hide: true } as object
  })
}

/** Only this machine is answered. */
function addGuards (scope: FastifyInstance): void {
  scope.addHook('onRequest', async (request, reply) => {
    const reason = notLocal(request)
    if (reason !== undefined) throw new FST_BOTAS_STATE_NOT_LOCAL(reason)
    reply.headers({
      'content-security-policy': CONTENT_SECURITY_POLICY,
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'cross-origin-resource-policy': 'same-origin',
      'cache-control': 'no-store'
    })
  })
}

function addPage (scope: FastifyInstance, files: Map<string, PageFile>): void {
  const html = (files.get('index.html') as PageFile).content.toString()
  scope.get('/', { prefixTrailingSlash: 'both' }, async (request, reply) => {
    // As the browser has asked, whatever the server has made of that.
    const [path = ''] = request.originalUrl.split('?')
    return reply.type('text/html; charset=utf-8').send(html.replaceAll('{base}', escaped(path.replace(/\/+$/, '').replace(/^\/+/, '/'))))
  })
  scope.get('/page/*', async (request, reply) => {
    const file = files.get((request.params as { '*': string })['*'])
    if (file === undefined) return reply.callNotFound()
    return reply.type(file.type).send(file.content)
  })
}

function addData (scope: FastifyInstance, turns: InspectedTurns, pages: LivePages, storage: Storage): void {
  const route = { onRequest: refuseCrossOrigin }
  // Taken over, so that neither hooks that gather a reply nor the option "handlerTimeout" come between.
  scope.get('/events', { ...route, exposeHeadRoute: false }, ({ raw }, reply) => {
    reply.hijack()
    // Its connection is not kept for later: the server would wait for it when it closes.
    const connection = raw.httpVersionMajor === 1 ? { connection: 'close' } : {}
    // It may have left while hooks took their time.
    if (isGone(reply)) return
    reply.raw.writeHead(200, { ...reply.getHeaders() as Record<string, string>, ...connection, 'content-type': 'text/event-stream' })
    pages.open(reply.raw)
  })
  scope.get<{ Params: { id: string } }>('/turns/:id', route, async ({ params }, reply) => {
    const turn = turns.turn(Number(params.id))
    return turn === undefined ? reply.callNotFound() : json(reply, turn.details)
  })
  scope.get<{ Querystring: { key?: string } }>('/document', route, async ({ query: { key } }, reply) => {
    if (typeof key !== 'string' || !turns.hasSeen(key)) return reply.callNotFound()
    return json(reply, await shownDocument(documentStoreOf(storage), key))
  })
}

/** As a text, which no preSerialization hook of the application's wraps. */
function json (reply: FastifyReply, value: object): FastifyReply {
  return reply.type('application/json; charset=utf-8').send(JSON.stringify(value))
}

async function refuseCrossOrigin (request: FastifyRequest, _reply: FastifyReply): Promise<void> {
  if (isCrossOrigin(request)) throw new FST_BOTAS_STATE_NOT_LOCAL('a page of another origin asks')
}

function escaped (text: string): string {
  return text.replace(/[^\w/.~%-]/g, (character) => `&#${character.codePointAt(0)};`)
}

/**
 * A page for development that shows the turns of a server as they go, what each of them changed, and what is stored. It answers this
 * machine only.
 *
 * @example
 * await app.register(inspector, { prefix: '/inspector' })
 *
 * @throws FST_BOTAS_STATE_INVALID_OPTION at registration, also where `NODE_ENV` is `production`, unless that is allowed
 */
export const inspector = fp(plugin, {
  name: 'fastify-botas-state/inspector', fastify: '^5.8.1', dependencies: ['fastify-botas-state'], encapsulate: true
})

export default inspector
