import type {
  FastifyContextConfig, FastifyPluginAsync, FastifyReply, FastifyRequest, RouteHandlerMethod, onSendHookHandler
} from 'fastify'
import fp from 'fastify-plugin'
import { FST_BOTAS_STATE_NOT_A_TURN, FST_BOTAS_STATE_NOT_LOADED } from './errors.js'
import { Exchange, exchangeIn, isThenable, kExchange } from './exchange.js'
import { type PersistedScope, type TurnIdentity, activityIdentity, checkedIdentity, missingFields } from './identity.js'
import type { BotasStateStats } from './operations.js'
import { type BotasStateOptions, type Identified, checkOptions } from './options.js'
import type { Storage } from './storage/storage.js'
import { isStream } from './stream-payload.js'
import type { TurnState } from './turn-state.js'
import { Turns } from './turns.js'

/** `fastify.botasState`: state outside a request, and how it is going. */
export interface BotasState {
  /** The storage that the plugin uses. */
  readonly storage: Storage
  /** What an operator asks first, as it is now: a new plain object each time, fit for JSON. */
  readonly stats: BotasStateStats
  /**
   * Runs one turn without a request, for a proactive message or a scheduled job: loads the state, runs `work`, saves
   * what changed when it resolves and nothing when it throws.
   *
   * @example
   * await app.botasState.run({ channelId, botId, userId }, (state) => state.deleteUserState())
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
    /** Turns without a request, the storage, and figures for an operator. */
    readonly botasState: BotasState
  }
}

const kAsked = Symbol('fastify-botas-state.asked')
const kOverseen = Symbol('fastify-botas-state.overseen')

/** What the plugin keeps on a request. */
interface Marked {
  /** made when the state is first used or loaded */
  [kExchange]: Exchange | null
  /** whether it is settled whose turn this is */
  [kAsked]: boolean
}

const plugin: FastifyPluginAsync<BotasStateOptions | Storage> = async (fastify, options) => {
  const { identify, flush, ...turnOptions } = await checkOptions(options)
  const botasState: BotasState = {
    storage: turnOptions.storage,
    get stats () { return turns.stats },
    run: (identity, work) => turns.run(identity, work)
  }
  // They lack what the plugin gives to the routes that are declared from now on.
  const hasEarlierRoutes = fastify.printRoutes() !== '(empty tree)'
  fastify.decorate('botasState', botasState)
  fastify.decorateRequest(kExchange, null)
  fastify.decorateRequest(kAsked, false)
  fastify.decorateRequest('state', {
    getter (this: FastifyRequest) {
      return exchangeOf(this).turn.state
    }
  })

  const turns = new Turns(turnOptions, {
    // Once an outage and reason, not once a request.
    down: (err) => fastify.log.error({ err }, 'the storage of the bot\'s state cannot be reached'),
    up: () => fastify.log.info('the storage of the bot\'s state can be reached again')
  })

  // A hook of which there is nothing to wait for calls back, the others give a promise: Fastify guards that against what
  // the rest of the request throws.

  // Asked only where it may tell: the default needs the body, which is not there yet.
  if (identify !== undefined) {
    fastify.addHook('onRequest', (request, reply, done) => {
      if (request.is404) return done()
      return beginTurn(request, reply, false) ?? done()
    })
  }
  fastify.addHook('preValidation', (request, reply, done) => {
    if (marked(request)[kAsked] || request.is404) return done()
    return beginTurn(request, reply, true) ?? done()
  })
  fastify.addHook('onError', (request, _reply, _error, done) => {
    exchangeIn(request)?.fail()
    done()
  })

  fastify.addHook('onRoute', (route) => {
    route.config = { ...route.config, [kOverseen]: true } as FastifyContextConfig
    route.handler = observed(route.handler)
    // The last onSend hook knows that no other failed. A route's own hooks run after those of its plugins.
    route.onSend = [route.onSend ?? []].flat().concat(onSend)
  })
  if (hasEarlierRoutes) {
    fastify.addHook('onSend', function (request, reply, payload, done) {
      if (exchangeIn(request) === undefined || isOverseen(request)) return done()
      return onSend.call(this, request, reply, payload, done)
    })
  }
  fastify.addHook('onClose', async () => {
    const left = await turns.close()
    if (left > 0) fastify.log.warn({ turns: left }, 'the server was closed before all turns were over: what they change may be lost')
  })

  /** Asks whose turn a request is and loads its state if the answer is there. Gives a promise where that takes time. */
  function beginTurn (request: FastifyRequest, reply: FastifyReply, last: boolean): Promise<void> | undefined {
    if (identify === undefined) return load(request, reply, activityIdentity(request.body), last)
    const identified = identify(request)
    const loadChecked = (identity: Identified): Promise<void> | undefined =>
      load(request, reply, identity == null ? undefined : checkedIdentity(identity), last)
    return isThenable<Identified>(identified) ? Promise.resolve(identified).then(loadChecked) : loadChecked(identified)
  }

  function load (
    request: FastifyRequest, reply: FastifyReply, identity: TurnIdentity | undefined, last: boolean
  ): Promise<void> | undefined {
    const mark = marked(request)
    if (identity === undefined) {
      mark[kAsked] = last
      return
    }
    if (hasEarlierRoutes && !isOverseen(request)) warnOnce(request)
    const exchange = exchangeOf(request)
    exchange.watch(reply)
    const loading = exchange.turn.load(identity)
    if (loading !== undefined) return loading.then(() => { mark[kAsked] = true })
    mark[kAsked] = true
  }

  let warned = false

  function warnOnce (request: FastifyRequest): void {
    if (warned) return
    warned = true
    request.log.warn({ route: request.routeOptions.url }, 'a route was declared before fastify-botas-state was loaded: ' +
      'if a client leaves there and the handler then returns nothing, its turn is saved no sooner than after flushTimeout, and ' +
      'an onSend hook that fails comes too late. Await the registration of the plugin before you declare routes.')
  }

  function exchangeOf (request: FastifyRequest): Exchange {
    const carrier = marked(request)
    carrier[kExchange] ??= new Exchange(
      turns.make((scope) => unavailable(request, scope)), request, turnOptions.flushTimeout)
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
    if (flush === 'onResponse' || isStream(sent) || exchange.settled) return done(null, sent)
    const ending = exchange.end()
    if (ending === undefined) return done(null, sent)
    return ending.then(() => sent)
  }
}

/** The handler of a route, with an eye on what becomes of it: no hook tells that of a handler that sends no reply. */
function observed (handler: RouteHandlerMethod): RouteHandlerMethod {
  return function (request, reply) {
    const exchange = exchangeIn(request)
    if (exchange === undefined) return handler.call(this, request, reply)
    return exchange.observe(handler, this, reply)
  }
}

/** Whether a route was declared when the plugin was loaded already, so that it has all that the plugin gives to routes. */
function isOverseen (request: FastifyRequest): boolean {
  return kOverseen in request.routeOptions.config
}

function marked (request: FastifyRequest): Marked {
  return request as unknown as Marked
}

/**
 * The plugin. Decorates requests with `state` and the server with `botasState`. Await its registration before you declare
 * routes.
 *
 * @example
 * await app.register(botasState, { storage: 'file:./bot-state' })
 *
 * @throws FST_BOTAS_STATE_INVALID_OPTION at registration
 */
export const botasState = fp(plugin, { name: 'fastify-botas-state', fastify: '^5.8.1' })
