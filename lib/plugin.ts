import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { FST_BOTAS_STATE_INVALID_PATH } from './errors.js'
import { OVERLAPPED, REJECTED, RequestTurns, kAsked, kIdentified } from './fastify/request-turns.js'
import { type RouteAdditions, routeCompletion } from './fastify/route-context.js'
import { kTurnRequest, turnRequestOf } from './fastify/turn-request.js'
import type { TurnIdentity } from './turn/identity.js'
import type { BotasStateStats } from './turn/telemetry.js'
import { type BotasStateOptions, checkOptions } from './options.js'
import type { Storage } from './storage/storage.js'
import type { TurnState } from './state/turn-state.js'
import { Turns, type TurnsObserver, kTurns } from './turn/turns.js'

/** `fastify.botasState`: state outside a request, and statistics. */
export interface BotasState {
  /** The storage that the plugin uses. */
  readonly storage: Storage
  /** Current figures for operators; a new JSON-serializable object each time. */
  readonly stats: BotasStateStats
  /**
   * Runs one turn without a request, for a proactive message or a scheduled job: loads the state, runs `work`, saves
   * what changed when it resolves and nothing when it throws.
   *
   * With the option `concurrency` it waits for its place in the conversation, whatever the strategy, and inside a turn of that it shares
   * its place. With `once` and an `activityId` it runs once: then it resolves to the first result again, as JSON has it, or to `undefined`
   * where that is too long, no JSON, or was a request's.
   *
   * @example
   * await app.botasState.run({ channelId, botId, userId }, (state) => state.deleteUserState())
   *
   * @param identity whose turn it is
   * @param work gets the state, which takes no more changes once `work` is done
   * @returns what `work` resolves to
   * @throws what `work` throws, and FST_BOTAS_STATE_INVALID_ID, FST_BOTAS_STATE_LOAD_FAILED,
   *   FST_BOTAS_STATE_BUSY, FST_BOTAS_STATE_REPLACED, FST_BOTAS_STATE_CORRUPT_DOCUMENT, FST_BOTAS_STATE_INVALID_DOCUMENT,
   *   FST_BOTAS_STATE_NEWER_DOCUMENT, FST_BOTAS_STATE_CANNOT_DECRYPT or FST_BOTAS_STATE_SAVE_FAILED
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

const plugin: FastifyPluginAsync<BotasStateOptions | Storage> = async (fastify, options) => {
  const { storage, identify, flush, concurrency, once, rules, loadTimeout, flushTimeout } = checkOptions(options)
  // Decorate first: it may throw, and the storage must then be untouched.
  decorate(fastify, {
    get [kTurns] () { return turns },
    storage,
    get stats () { return turns.stats },
    run: (identity, work) => turns.run(identity, work)
  }, (request) => requestTurns.of(request).turn.state)
  const { strategy, limits } = concurrency
  const turns = new Turns({
    storage,
    // A reminder never aborts a user's turn, nor is it lost because one is at work.
    terms: { strategy: strategy === 'parallel' ? 'parallel' : 'queue', limits },
    once,
    rules,
    loadTimeout,
    saveTimeout: flushTimeout,
    closeTimeout: flushTimeout
  }, observerOf(fastify))
  const completeRoute = routeCompletion(fastify, routeAdditions)
  const requestTurns = new RequestTurns(turns, { identify, concurrency, flush, keepReply: once?.keepReply ?? 0, handlerPatience: flushTimeout, holdTimeout: flushTimeout, completeRoute })
  addTurnHooks(fastify, requestTurns, identify !== undefined)
  if (strategy !== 'parallel' || once !== undefined) addInsideHooks(fastify, turns)
  if (strategy !== 'parallel' && turns.isShared === undefined) {
    fastify.log.info('turns wait for each other within this process only: the storage has no leases')
  }
  fastify.addHook('preClose', async () => turns.abort())
  fastify.addHook('onClose', async () => {
    const left = await turns.close()
    if (left > 0) fastify.log.warn({ turns: left }, 'the server was closed before all turns were over: what they change may be lost')
  })
}

/** Logs an outage once for each reason, not once a request. */
function observerOf ({ log }: FastifyInstance): TurnsObserver {
  return {
    down: (err) => log.error({ err }, 'the storage of the bot\'s state cannot be reached'),
    up: () => log.info('the storage of the bot\'s state can be reached again'),
    rejected: (err) => log.error({ err }, REJECTED),
    overlapped: (keys) => log.warn({ keys }, OVERLAPPED)
  }
}

/** Calls the handler through the turn of its request, and shows the turn the reply after all other hooks. */
const routeAdditions: RouteAdditions = {
  callHandler (handler, server, request, reply) {
    const turnRequest = turnRequestOf(request)
    return turnRequest === undefined ? handler.call(server, request, reply) : turnRequest.callHandler(handler, server, reply)
  },
  lastOnSend (request, reply, payload, done) {
    const turnRequest = turnRequestOf(request)
    if (turnRequest === undefined) done()
    else turnRequest.pass(reply, payload, done)
  }
}

/**
 * Hooks that finish synchronously call done(); the others return a promise, so that Fastify catches what later stages throw.
 *
 * @param isAskedEarly whether somebody may know the turn without the body, which is not there in onRequest
 */
function addTurnHooks (fastify: FastifyInstance, requestTurns: RequestTurns, isAskedEarly: boolean): void {
  if (isAskedEarly) fastify.addHook('onRequest', (request, reply, done) => requestTurns.begin(request, reply, false) ?? done())
  fastify.addHook('preValidation', (request, reply, done) => requestTurns.begin(request, reply, true) ?? done())
  fastify.addHook('onError', (request, _reply, error, done) => {
    // The reply may already be on its way when the turn begins.
    requestTurns.of(request).onError(error)
    done()
  })
}

/** What the later stages begin with `run`, in the conversation of the turn, shares its place, and does not wait for its activity. */
function addInsideHooks (fastify: FastifyInstance, turns: Turns): void {
  const inside = (request: FastifyRequest, _reply: FastifyReply, done: () => void): void => {
    const turnRequest = turnRequestOf(request)
    if (turnRequest === undefined) done()
    else turns.inside(turnRequest.turn, done)
  }
  fastify.addHook('onRequest', inside)
  // The body was read since, by callbacks of the socket.
  fastify.addHook('preValidation', inside)
}

function decorate (fastify: FastifyInstance, botasState: BotasState & { [kTurns]: Turns }, stateOf: (request: FastifyRequest) => TurnState): void {
  const isOurs = fastify.hasRequestDecorator(kTurnRequest)
  try {
    fastify.decorate('botasState', botasState)
    fastify.decorateRequest(kTurnRequest, null)
    fastify.decorateRequest(kAsked, false)
    fastify.decorateRequest(kIdentified, null)
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

/**
 * The plugin. Decorates requests with `state` and the server with `botasState`.
 *
 * @example
 * await app.register(botasState, { storage: 'file:./bot-state' })
 *
 * @throws FST_BOTAS_STATE_INVALID_OPTION at registration
 */
export const botasState = fp(plugin, { name: 'fastify-botas-state', fastify: '^5.8.1' })
