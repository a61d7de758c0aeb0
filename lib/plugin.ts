import diagnostics from 'node:diagnostics_channel'
import type { FastifyContextConfig, FastifyPluginAsync, FastifyReply, FastifyRequest, onSendHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { FST_BOTAS_STATE_NOT_A_TURN, FST_BOTAS_STATE_NOT_LOADED } from './errors.js'
import { Exchange } from './exchange.js'
import { type PersistedScope, type TurnIdentity, activityIdentity, missingFields } from './identity.js'
import { type BotasStateOptions, checkOptions } from './options.js'
import type { Storage } from './storage/storage.js'
import { isStream } from './stream-payload.js'
import type { TurnState } from './turn-state.js'
import { Turns } from './turns.js'

/** `fastify.botasState`: state outside a request. */
export interface BotasState {
  /** The storage that the plugin uses. */
  readonly storage: Storage
  /**
   * Runs one turn without a request, for a proactive message or a scheduled job: loads the state, runs `work`, saves
   * what changed when it resolves and nothing when it throws.
   *
   * @param identity whose turn it is
   * @param work gets the state, which takes no more changes once `work` is done
   * @returns what `work` resolves to
   * @throws what `work` throws, and FST_BOTAS_STATE_INVALID_ID, FST_BOTAS_STATE_LOAD_FAILED,
   *   FST_BOTAS_STATE_CORRUPT_DOCUMENT or FST_BOTAS_STATE_SAVE_FAILED
   */
  run<Result>(identity: TurnIdentity, work: (state: TurnState) => Result | Promise<Result>): Promise<Result>
}

declare module 'fastify' {
  interface FastifyRequest {
    /** What the bot knows in this turn. `temp` is always there, the other scopes once their state is loaded. */
    readonly state: TurnState
  }
  interface FastifyInstance {
    /** Turns without a request, and the storage. */
    readonly botasState: BotasState
  }
}

const kExchange = Symbol('fastify-botas-state.exchange')
const kAsked = Symbol('fastify-botas-state.asked')
const kRunsLast = Symbol('fastify-botas-state.runs-last')

/** Fastify publishes what becomes of a handler, see "Diagnostics Channel Hooks" in its documentation of hooks. */
const HANDLER_FAILED = 'tracing:fastify.request.handler:error'
const HANDLER_RETURNED = 'tracing:fastify.request.handler:asyncEnd'

/** What the plugin keeps on a request. */
interface Marked {
  /** made when the state is first used or loaded */
  [kExchange]: Exchange | null
  /** whether it is settled whose turn this is */
  [kAsked]: boolean
}

const plugin: FastifyPluginAsync<BotasStateOptions | Storage> = async (fastify, options) => {
  const { identify, flush, ...turnOptions } = await checkOptions(options)
  const turns = new Turns(turnOptions)

  const botasState: BotasState = {
    storage: turnOptions.storage,
    run: (identity, work) => turns.run(identity, work)
  }
  fastify.decorate('botasState', botasState)
  fastify.decorateRequest(kExchange, null)
  fastify.decorateRequest(kAsked, false)
  fastify.decorateRequest('state', {
    getter (this: FastifyRequest) {
      return exchangeOf(this).turn.state
    }
  })

  fastify.addHook('onRequest', (request, reply, done) => {
    // Asked only where it may tell: the default needs the body, which is not there yet.
    if (identify === undefined || request.is404) done()
    else beginTurn(request, reply, false, done)
  })
  fastify.addHook('preValidation', (request, reply, done) => {
    if (marked(request)[kAsked] || request.is404) done()
    else beginTurn(request, reply, true, done)
  })
  fastify.addHook('onError', (request, _reply, _error, done) => {
    exchangeIn(request)?.turn.fail()
    done()
  })

  // The last onSend hook knows whether all others succeeded. A route's own hooks run after those of its plugins; a route
  // that was declared before this plugin was loaded can be given none and makes do with the hook of the plugin.
  fastify.addHook('onRoute', (route) => {
    route.config = { ...route.config, [kRunsLast]: true } as FastifyContextConfig
    route.onSend = [route.onSend ?? []].flat().concat(onSend)
  })
  fastify.addHook('onSend', function (request, reply, payload, done) {
    if (exchangeIn(request) === undefined || kRunsLast in request.routeOptions.config) done()
    else onSend.call(this, request, reply, payload, done)
  })

  diagnostics.subscribe(HANDLER_FAILED, handlerFailed)
  diagnostics.subscribe(HANDLER_RETURNED, handlerReturned)
  fastify.addHook('onClose', async () => {
    await turns.close()
    diagnostics.unsubscribe(HANDLER_FAILED, handlerFailed)
    diagnostics.unsubscribe(HANDLER_RETURNED, handlerReturned)
  })

  /** Asks whose turn a request is and loads its state if the answer is there. */
  function beginTurn (request: FastifyRequest, reply: FastifyReply, last: boolean, done: (error?: Error) => void): void {
    const load = (identity: TurnIdentity | undefined): void => {
      if (identity === undefined) {
        marked(request)[kAsked] = last
        done()
        return
      }
      const exchange = exchangeOf(request)
      exchange.watch(reply)
      exchange.turn.load(identity).then(() => {
        marked(request)[kAsked] = true
        done()
      }, done)
    }
    const identity = identify === undefined ? activityIdentity(request.body) : identify(request)
    if (identity instanceof Promise) identity.then(load, done)
    else load(identity)
  }

  function exchangeOf (request: FastifyRequest): Exchange {
    const carrier = marked(request)
    carrier[kExchange] ??= new Exchange(turns.begin((scope) => unavailable(request, scope)), request)
    return carrier[kExchange]
  }

  function unavailable (request: FastifyRequest, scope: PersistedScope): Error {
    if (request.is404) return new FST_BOTAS_STATE_NOT_A_TURN(scope, 'a route')
    if (!marked(request)[kAsked]) return new FST_BOTAS_STATE_NOT_LOADED(scope)
    return new FST_BOTAS_STATE_NOT_A_TURN(scope, identify === undefined
      ? missingFields(scope, request.body).join(', ')
      : 'an id in what "identify" gave')
  }

  const onSend: onSendHookHandler = (request, reply, payload, done) => {
    const exchange = exchangeIn(request)
    if (exchange === undefined) return done()
    const sent = exchange.answer(reply, payload)
    // What a stream will come to is known at its end only.
    if (flush === 'onResponse' || isStream(sent) || exchange.turn.failed) return done(null, sent)
    exchange.turn.end().then(() => done(null, sent), done)
  }
}

/** Runs also where no onError hook does: for a handler that throws after it took over the reply. */
function handlerFailed (event: unknown): void {
  exchangeIn((event as { request: FastifyRequest }).request)?.turn.fail()
}

function handlerReturned (event: unknown): void {
  exchangeIn((event as { request: FastifyRequest }).request)?.handlerReturned()
}

/** The exchange of a request that is a turn. */
function exchangeIn (request: FastifyRequest): Exchange | undefined {
  const exchange = marked(request)[kExchange]
  return exchange?.watched === true ? exchange : undefined
}

function marked (request: FastifyRequest): Marked {
  return request as unknown as Marked
}

/**
 * The plugin. Decorates requests with `state` and the server with `botasState`.
 *
 * @throws FST_BOTAS_STATE_INVALID_OPTION at registration
 */
export const botasState = fp(plugin, { name: 'fastify-botas-state', fastify: '5.x' })
