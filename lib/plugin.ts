import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { FST_BOTAS_STATE_INVALID_PATH, FST_BOTAS_STATE_NOT_A_TURN, FST_BOTAS_STATE_NOT_LOADED } from './errors.js'
import { activityIdentity, missingFields } from './fastify/activity.js'
import { routeCompletion } from './fastify/route-context.js'
import { TurnRequest, isThenable, kTurnRequest, turnRequestOf } from './fastify/turn-request.js'
import { type TurnIdentity, identifiedBy } from './turn/identity.js'
import type { BotasStateStats } from './turn/telemetry.js'
import { type BotasStateOptions, type Identified, checkOptions } from './options.js'
import type { Storage } from './storage/storage.js'
import type { PersistedScope } from './state/state-scope.js'
import type { TurnState } from './state/turn-state.js'
import { Turns } from './turn/turns.js'

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

const REJECTED = 'a promise given to waitUntil was rejected: the turn is not saved'

const kAsked = Symbol('fastify-botas-state.asked')

/** What the plugin keeps on a request. */
interface Marked {
  /** made when the state is first used or loaded */
  [kTurnRequest]: TurnRequest | null
  /** whether it is settled whose turn this is */
  [kAsked]: boolean
}

const plugin: FastifyPluginAsync<BotasStateOptions | Storage> = async (fastify, options) => {
  const { identify, flush, ...turnOptions } = checkOptions(options)
  const endingOptions = { flush, flushTimeout: turnOptions.flushTimeout }
  decorate(fastify, {
    storage: turnOptions.storage,
    get stats () { return turns.stats },
    run: (identity, work) => turns.run(identity, work)
  }, (request) => turnRequestIn(request).turn.state)

  const turns = new Turns(turnOptions, {
    // Once an outage and reason, not once a request.
    down: (err) => fastify.log.error({ err }, 'the storage of the bot\'s state cannot be reached'),
    up: () => fastify.log.info('the storage of the bot\'s state can be reached again'),
    rejected: (err) => fastify.log.error({ err }, REJECTED)
  })

  const completeRoute = routeCompletion(fastify, {
    callHandler (handler, server, request, reply) {
      const turnRequest = turnRequestOf(request)
      return turnRequest === undefined ? handler.call(server, request, reply) : turnRequest.callHandler(handler, server, reply)
    },
    lastOnSend (request, reply, payload, done) {
      const turnRequest = turnRequestOf(request)
      if (turnRequest === undefined) done()
      else turnRequest.pass(reply, payload, done)
    }
  })

  // Hooks that finish synchronously call done(); the others return a promise: Fastify guards that against what the rest of
  // the request throws.

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
  fastify.addHook('onError', (request, _reply, error, done) => {
    // A hook may fail for a reply that is on its way when the turn begins.
    turnRequestIn(request).onError(error)
    done()
  })
  fastify.addHook('preClose', async () => turns.abort())
  fastify.addHook('onClose', async () => {
    const left = await turns.close()
    if (left > 0) fastify.log.warn({ turns: left }, 'the server was closed before all turns were over: what they change may be lost')
  })

  /** Asks whose turn a request is and loads its state if the answer is there. Gives a promise where that takes time. */
  function beginTurn (request: FastifyRequest, reply: FastifyReply, last: boolean): Promise<void> | undefined {
    if (identify === undefined) return load(request, reply, activityIdentity(request.body), last)
    const identified = identify(request)
    const loadChecked = (identity: Identified): Promise<void> | undefined => load(request, reply, identifiedBy(identity), last)
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
    completeRoute(request)
    const turnRequest = turnRequestIn(request)
    turnRequest.watch(reply)
    mark[kAsked] = true
    return turnRequest.turn.load(identity)
  }

  function turnRequestIn (request: FastifyRequest): TurnRequest {
    const mark = marked(request)
    mark[kTurnRequest] ??= makeTurnRequest(request)
    return mark[kTurnRequest]
  }

  function makeTurnRequest (request: FastifyRequest): TurnRequest {
    const turn = turns.make({
      unavailable: (scope) => unavailable(request, scope),
      rejected: (err) => request.log.error({ err }, REJECTED),
      isAnswered: () => turnRequest.isAnswered
    })
    const turnRequest: TurnRequest = new TurnRequest(turn, request, endingOptions)
    return turnRequest
  }

  function unavailable (request: FastifyRequest, scope: PersistedScope): Error {
    if (request.is404) return new FST_BOTAS_STATE_NOT_A_TURN(scope, 'no route matched this request')
    if (!marked(request)[kAsked]) return new FST_BOTAS_STATE_NOT_LOADED(scope)
    return new FST_BOTAS_STATE_NOT_A_TURN(scope, identify === undefined
      ? missingInActivity(scope, request.body)
      : 'what "identify" gave lacks an id')
  }
}

/** Says what an activity lacks, by the fields that it has now. */
function missingInActivity (scope: PersistedScope, body: unknown): string {
  const missing = missingFields(scope, body)
  return missing.length > 0
    ? `the activity lacks ${missing.join(', ')}`
    : 'the body was no activity yet in the preValidation hook of fastify-botas-state; add what completes it, such as a hook that ' +
      'reads a multipart body, before fastify-botas-state is registered'
}

function decorate (fastify: FastifyInstance, botasState: BotasState, stateOf: (request: FastifyRequest) => TurnState): void {
  const isOurs = fastify.hasRequestDecorator(kTurnRequest)
  try {
    fastify.decorate('botasState', botasState)
    fastify.decorateRequest(kTurnRequest, null)
    fastify.decorateRequest(kAsked, false)
    fastify.decorateRequest('state', {
      getter (this: FastifyRequest) {
        return stateOf(this)
      },
      setter () {
        throw new FST_BOTAS_STATE_INVALID_PATH('"state" cannot be assigned to: call set(key, value) on a scope of request.state instead')
      }
    })
  } catch (error) {
    const owner = isOurs
      ? 'it is registered here or in an enclosing scope already: register it once, or in sibling scopes'
      : 'another plugin or the application has decorated requests with "state", or the server with "botasState": give that ' +
        'decorator another name'
    throw Object.assign(error as Error, { message: `fastify-botas-state cannot be registered: ${owner}` })
  }
}

function marked (request: FastifyRequest): Marked {
  return request as unknown as Marked
}

/**
 * The plugin. Decorates requests with `state` and the server with `botasState`.
 *
 * @example
 * await app.register(botasState, { storage: 'file:./bot-state' })
 *
 * @throws FST_BOTAS_STATE_INVALID_OPTION at registration
 */
export const botasState = fp(plugin, { name: 'fastify-botas-state', fastify: '^5.8.1' })
