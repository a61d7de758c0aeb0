import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest, type FastifyServerOptions } from 'fastify'
import fp from 'fastify-plugin'
import { readFileSync } from 'node:fs'
import { Writable } from 'node:stream'
import { setImmediate as immediate } from 'node:timers/promises'
import botasState, { type BotasStateOptions, type Storage } from '../../../lib/index.js'
import { inspector } from '../../../lib/inspector/inspector.js'
import { certificatePath } from '../certificates.js'
import { addHooks, addHooksOnRoute, hooksOfRoute } from './hooks.js'
import { codeOf, handlerOf } from './handler.js'
import { isProducedLater } from './payloads.js'
import { type Program, flushTimeout } from './program.js'
import { type Run, STREAM_FAILED } from './run.js'

const certificate = readFileSync(certificatePath)

/** The server of a program, with the plugin, or with one that gives nothing but a `request.state` that does nothing. */
export async function serve (run: Run, storage: Storage): Promise<FastifyInstance> {
  const { program } = run
  const stream = new Writable({
    write (line, _encoding, done) {
      run.log.push(String(line))
      done()
    }
  })
  const app = Fastify({
    logger: { level: 'warn', stream }, forceCloseConnections: true, ...protocolOptions(program.protocol)
  } as FastifyServerOptions) as FastifyInstance
  try {
    await start(run, app, storage)
    return app
  } catch (error) {
    await app.close()
    throw error
  }
}

async function start (run: Run, app: FastifyInstance, storage: Storage): Promise<void> {
  const { program } = run
  addProbes(run, app)
  addErrorHandler(program, app)
  addHooks(run, app, 'before')
  const plugin = run.mode === 'plugin' ? botasState : withoutPlugin(program)
  const options = { storage, flush: program.flush, flushTimeout: flushTimeout(program) }
  switch (program.registered) {
    case 'awaited':
      await app.register(plugin, options)
      addRoutes(run, app)
      break
    case 'in the same tick':
      app.register(plugin, options)
      addRoutes(run, app)
      break
    case 'before a child':
      app.register(plugin, options)
      app.register(async (child) => { addRoutes(run, child) })
      break
    case 'last':
      addRoutes(run, app)
      app.register(plugin, options)
  }
  if (run.mode === 'plugin' && program.isInspected) app.register(inspector)
  await app.listen({ host: '127.0.0.1', port: 0 })
}

/** A storage that takes its time makes the handler run a little later, which decides some of Fastify's own races. */
function withoutPlugin ({ storage }: Program) {
  return fp(async (app: FastifyInstance, _options: BotasStateOptions | Storage) => {
    const scope = { set () {}, toJSON () {} }
    app.decorateRequest('state', { getter: () => ({ conversation: scope, user: scope }) as never })
    if (storage !== 'memory') app.addHook('preValidation', async () => { await immediate() })
  })
}

function protocolOptions (protocol: Program['protocol']): object {
  const https = protocol.includes('TLS') ? { https: { key: certificate, cert: certificate } } : {}
  return protocol.startsWith('HTTP/2') ? { http2: true, ...https } : https
}

function addErrorHandler ({ errorHandler }: Program, app: FastifyInstance): void {
  if (errorHandler === 'answers 200') app.setErrorHandler((error, _request, reply) => { reply.code(200).send({ caught: codeOf(error) }) })
  if (errorHandler === 'answers 418 later') app.setErrorHandler(async (error, _request, reply) => reply.code(418).send({ caught: codeOf(error) }))
}

function addRoutes (run: Run, app: FastifyInstance): void {
  addHooks(run, app, 'after')
  addHooksOnRoute(run, app)
  app.post('/', hooksOfRoute(run), handlerOf(run))
  app.post('/next', async ({ state }) => ({ conversation: state.conversation.toJSON(), user: state.user.toJSON() }))
}

/** Hooks before all others that note what Fastify does. */
function addProbes (run: Run, app: FastifyInstance): void {
  const isFirst = ({ url }: FastifyRequest): boolean => url === '/'
  app.addHook('onRequest', (request, reply, done) => {
    if (isFirst(request)) watchRaw(run, reply)
    done()
  })
  app.addHook('preSerialization', (request, _reply, _payload, done) => {
    if (isFirst(request)) run.interfere()
    done()
  })
  app.addHook('onSend', (request, reply, payload, done) => {
    if (isFirst(request)) handedOver(run, reply, payload)
    done()
  })
  app.addHook('onError', (request, reply, error, done) => {
    if (isFirst(request) && [STREAM_FAILED, 'ERR_STREAM_PREMATURE_CLOSE'].includes(codeOf(error))) run.streamOver()
    // Where a reply has left, the error is about a second one, which Fastify tries to send in vain.
    if (isFirst(request) && !run.has('headers')) run.note({ is: 'failed', by: 'fastify', why: codeOf(error) })
    done()
  })
}

function handedOver (run: Run, reply: FastifyReply, payload: unknown): void {
  run.interfere()
  const streamed = run.streams.has(payload as object)
  run.note({ is: 'handed over', status: payload instanceof Response ? payload.status : reply.statusCode, streamed })
  if (isProducedLater(payload) || isSentInPieces(run.program, payload)) run.streaming()
}

/** Over HTTP/2 Fastify writes what is long bit by bit. */
function isSentInPieces ({ protocol }: Program, payload: unknown): boolean {
  return protocol.startsWith('HTTP/2') && typeof payload === 'string' && payload.length > 65_536
}

function watchRaw (run: Run, { raw }: FastifyReply): void {
  const { writeHead } = raw
  raw.writeHead = function (this: typeof raw, ...head: Parameters<typeof writeHead>) {
    run.note({ is: 'headers', status: head[0] })
    return writeHead.apply(this, head)
  } as typeof writeHead
  raw.on('close', () => run.streamOver())
}
