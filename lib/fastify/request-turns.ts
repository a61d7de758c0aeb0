import type { FastifyReply, FastifyRequest } from 'fastify'
import { FST_BOTAS_STATE_INVALID_OPTION, FST_BOTAS_STATE_NOT_A_TURN, FST_BOTAS_STATE_NOT_LOADED } from '../errors.js'
import type { PersistedScope } from '../state/state-scope.js'
import { type TurnIdentity, identifiedBy, isMissing, missingIds } from '../turn/identity.js'
import { type PlaceLimits, STRATEGIES, type Strategy, isStrategy } from '../turn/overlap/terms.js'
import type { Turns } from '../turn/turns.js'
import { activityId, activityIdentity, missingFields } from './activity.js'
import { type EndingOptions, TurnRequest, isThenable, kTurnRequest } from './turn-request.js'

/** What the option `identify` may answer; `null` counts as `undefined`. */
export type Identified = TurnIdentity | null | undefined

/** The option `identify`. */
export type Identify = (request: FastifyRequest) => Identified | Promise<Identified>

/** The option `concurrency`, where it chooses by request. */
export type StrategyOf = (request: FastifyRequest) => Strategy

/** A turn was merged with another one. */
export const OVERLAPPED = 'a turn lost its place in the conversation while it was open: what it changes is merged with the turns that come between'

/** A promise that kept a turn open was rejected. */
export const REJECTED = 'a promise given to waitUntil was rejected: the turn is not saved'

/** Whether it is settled whose turn a request is. */
export const kAsked = Symbol('fastify-botas-state.asked')

/** What the option `identify` returned. */
export const kIdentified = Symbol('fastify-botas-state.identified')

/** In the `config` of a route whose requests are no turns, and are not asked for any. */
export const kNoTurns = Symbol('fastify-botas-state.no-turns')

/** What is kept on a request. */
interface Marked {
  /** made when the state is first used or loaded */
  [kTurnRequest]: TurnRequest | null
  [kAsked]: boolean
  [kIdentified]: Identified
}

/** What the turns of requests depend on. */
export interface RequestTurnsOptions extends EndingOptions {
  /** by default the body is asked, as an activity */
  identify: Identify | undefined
  concurrency: { strategy: Strategy | StrategyOf, limits: PlaceLimits }
  /** makes sure that the handler and the hooks of a request's route are watched */
  completeRoute(request: FastifyRequest): void
}

/** The turns of the requests of one server: whose turn a request is, and its state. */
export class RequestTurns {
  readonly #turns: Turns
  readonly #options: RequestTurnsOptions

  constructor (turns: Turns, options: RequestTurnsOptions) {
    this.#turns = turns
    this.#options = options
  }

  /** The turn of a request, be it identified or not. */
  of (request: FastifyRequest): TurnRequest {
    const mark = marked(request)
    mark[kTurnRequest] ??= this.#make(request)
    return mark[kTurnRequest]
  }

  /**
   * Asks whose turn a request is, if that is not settled, and loads its state if the answer is there.
   *
   * @param isLast whether nobody asks again
   * @returns a promise where that takes time
   * @throws FST_BOTAS_STATE_INVALID_ID, and what `identify` throws
   */
  begin (request: FastifyRequest, reply: FastifyReply, isLast: boolean): Promise<unknown> | undefined {
    if (marked(request)[kAsked] || request.is404) return undefined
    // Routes that watch turns are there only where these are watched.
    if (this.#turns.isWatched && kNoTurns in request.routeOptions.config) return undefined
    const { identify } = this.#options
    if (identify === undefined) return this.#load(request, reply, activityIdentity(request.body), isLast)
    const answer = identify(request)
    const load = (identified: Identified): Promise<unknown> | undefined => {
      marked(request)[kIdentified] = identified
      return this.#load(request, reply, identifiedBy(identified), isLast)
    }
    return isThenable<Identified>(answer) ? Promise.resolve(answer).then(load) : load(answer)
  }

  #load (request: FastifyRequest, reply: FastifyReply, identified: TurnIdentity | undefined, isLast: boolean): Promise<unknown> | undefined {
    const identity = identified && this.#withActivity(identified, request)
    // What is handled once is known when the body is there.
    const isAsked = isLast || (identity !== undefined && (!this.#turns.isOnce || !isMissing(identity.activityId)))
    marked(request)[kAsked] = isAsked
    if (!isAsked || identity === undefined) return undefined
    this.#options.completeRoute(request)
    const turnRequest = this.of(request)
    turnRequest.watch(reply)
    return turnRequest.load(identity, {
      strategy: this.#strategyOf(request),
      limits: this.#options.concurrency.limits,
      activity: this.#turns.activityOf(identity)
    })
  }

  /** By default an activity is known by the id that it has in its body. */
  #withActivity (identity: TurnIdentity, { body }: FastifyRequest): TurnIdentity {
    if (!this.#turns.isOnce || !isMissing(identity.activityId)) return identity
    return { ...identity, activityId: activityId(body) }
  }

  #strategyOf (request: FastifyRequest): Strategy {
    const { strategy } = this.#options.concurrency
    if (typeof strategy !== 'function') return strategy
    const chosen = strategy(request)
    if (isStrategy(chosen)) return chosen
    // It is not awaited, and must not end the process.
    if (isThenable(chosen)) Promise.resolve(chosen).catch(() => {})
    throw new FST_BOTAS_STATE_INVALID_OPTION(`the function "concurrency" must return one of ${STRATEGIES.join(', ')}, for every request`)
  }

  #make (request: FastifyRequest): TurnRequest {
    const turn = this.#turns.make({
      unavailable: (scope) => this.#unavailable(request, scope),
      rejected: (err) => request.log.error({ err }, REJECTED),
      overlapped: () => request.log.warn({ keys: turn.keys }, OVERLAPPED),
      isAnswered: () => turnRequest.isAnswered,
      isDecided: () => turnRequest.isDecided
    })
    const turnRequest: TurnRequest = new TurnRequest(turn, request, this.#options)
    return turnRequest
  }

  #unavailable (request: FastifyRequest, scope: PersistedScope): Error {
    if (request.is404) return new FST_BOTAS_STATE_NOT_A_TURN(scope, 'no route matched this request')
    if (!marked(request)[kAsked]) return new FST_BOTAS_STATE_NOT_LOADED(scope)
    return new FST_BOTAS_STATE_NOT_A_TURN(scope, this.#options.identify === undefined
      ? missingInActivity(scope, request.body)
      : missingInIdentity(scope, marked(request)[kIdentified]))
  }
}

function missingInIdentity (scope: PersistedScope, identified: Identified): string {
  return identified == null
    ? '"identify" returned no identity for this request'
    : `the identity that "identify" returned lacks ${missingIds(scope, identified).join(', ')}`
}

/** Says what an activity lacks, by the fields that it has now. */
function missingInActivity (scope: PersistedScope, body: unknown): string {
  const missing = missingFields(scope, body)
  return missing.length > 0
    ? `the activity lacks ${missing.join(', ')}`
    : 'the body was no activity yet in the preValidation hook of fastify-botas-state; add what completes it, such as a hook that ' +
      'reads a multipart body, before fastify-botas-state is registered'
}

function marked (request: FastifyRequest): Marked {
  return request as unknown as Marked
}
