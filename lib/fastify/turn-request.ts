import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'
import { FST_BOTAS_STATE_REPLACED, FST_BOTAS_STATE_TURN_ENDED } from '../errors.js'
import type { TurnIdentity } from '../turn/identity.js'
import type { Terms } from '../turn/overlap/terms.js'
import type { Turn } from '../turn/turn.js'
import { type KeptReply, replyOf } from '../turn/kept.js'
import { keptReply, replay } from './kept-reply.js'
import { type Done, HeldReply, type ReplySnapshot, snapshotOf } from './held-reply.js'
import { discard, isResponse, isStream, isWebResponse, isWritable, readAtHand, watchStream } from './payload.js'
import { type ReplyWatcher, isSentOverridden, restoreSent, watchReplies } from './reply-watch.js'
import { errorOfServer, isGone, onceClosed, onceEnded, watchBody, watchConnection } from './response-end.js'

/** The options of the plugin on which the end of a turn depends. */
export interface EndingOptions {
  flush: 'onResponse' | 'onSend'
  /** the longest reply that is kept for later deliveries of an activity, in bytes */
  keepReply: number
  /** how long after its call a handler without promise may reply to a client that left, in milliseconds */
  handlerPatience: number
  /** how long a reply waits for a handler that goes on, in milliseconds */
  holdTimeout: number
}

/**
 * The request of a turn: when the turn is decided, and how.
 *
 * A turn is over when no handler is at work, no promise keeps it open, and its reply has passed all hooks; or, where the
 * reply is streamed or taken over, when the raw response has ended. What fails before that fails the turn.
 */
export class TurnRequest implements ReplyWatcher {
  readonly turn: Turn
  readonly #request: FastifyRequest
  readonly #options: EndingOptions
  #reply: FastifyReply | undefined
  /** how far the reply is; a held one has passed the hooks, and waits for the handler or for the save */
  #progress: 'open' | 'passing hooks' | 'held' | 'left' | 'streaming' = 'open'
  /** whether the payload that was handed over is a stream; a hook may make one of any other */
  #isStreamSent: boolean | undefined
  #before: ReplySnapshot | undefined
  #held: HeldReply | undefined
  /** no more of the reply can reach the client */
  #isClosed = false
  /** more than one after reply.callNotFound() */
  #handlersAtWork = 0
  /** 'delegates': the handler returned nothing; a callback may still call reply.send() */
  #handler: 'not called' | 'delegates' | 'done' = 'not called'
  /** as `performance.now` has it */
  #handlerCalledAt = 0
  /** the handler has awaited the reply, which somebody else is to send */
  #isAwaited = false
  /** what lets a handler go on that awaits the reply: that cannot wait for the handler then */
  #awaiting: Array<() => void> = []
  /** as it was sent; what `reply.code()` says later changes nothing of that */
  #status: number | undefined
  /** what an earlier delivery of the activity was answered with */
  #replay: KeptReply | undefined
  /** whether the reply is kept for later deliveries */
  #isKept = false
  /** what Fastify says of a reply whose response a hook has taken over */
  #refusal: unknown
  /** of a turn that is handled once: whether all of the stream that the handler sends has left */
  #isStreamWhole: (() => boolean) | undefined
  #isOver = false
  #givingUp: NodeJS.Timeout | undefined
  #lettingGo: NodeJS.Timeout | undefined

  constructor (turn: Turn, request: FastifyRequest, options: EndingOptions) {
    this.turn = turn
    this.#request = request
    this.#options = options
  }

  /** Whether the request was found to be a turn. */
  get isWatched (): boolean {
    return this.#reply !== undefined
  }

  /**
   * Whether the client may have the whole reply: with a content-length it has, as soon as that many bytes are there. Over HTTP/1.0
   * a reply without one ends with the connection.
   */
  get isAnswered (): boolean {
    const { raw, request } = this.#reply as FastifyReply
    const isEndless = raw.chunkedEncoding === false && request.raw.httpVersion !== '1.0'
    return raw.writableEnded || (raw.headersSent && (raw.hasHeader('content-length') || isEndless))
  }

  /** Whether nothing is to come but the save. */
  get isDecided (): boolean {
    return this.#isOver || (this.isAnswered && this.#handlersAtWork === 0 && !this.turn.isKeptOpen)
  }

  /**
   * Loads the state; or, where the activity was handled before, sends what was kept of its reply.
   *
   * @returns the reply, if it was sent
   */
  async load (identity: TurnIdentity, terms: Terms): Promise<FastifyReply | undefined> {
    const kept = await this.turn.load(identity, terms)
    if (kept === undefined) return
    const reply = this.#reply as FastifyReply
    this.#replay = replyOf(kept)
    return reply.send(replay(reply, this.#replay))
  }

  /** Begins to look out for the end. */
  watch (reply: FastifyReply): void {
    this.#reply = reply
    this.turn.begin()
    watchReplies(reply, ({ request }) => turnRequestOf(request))
    const isConnectionBroken = watchConnection(reply)
    if (isGone(reply)) this.#onClosed(reply, isConnectionBroken)
    else onceClosed(reply, () => this.#onClosed(reply, isConnectionBroken))
  }

  /** Calls the handler. It is at work until it returns, and until its promise settles if it gives one. */
  callHandler (handler: RouteHandlerMethod, server: FastifyInstance, reply: FastifyReply): unknown {
    this.#handlersAtWork++
    this.#handlerCalledAt = performance.now()
    this.#isAwaited = false
    try {
      const result: unknown = handler.call(server, this.#request, reply)
      if (result === reply || !isThenable(result)) {
        this.#onReturned(reply, result === reply ? undefined : result, false)
        return result
      }
      // Await a thenable once only: a query builder runs each time.
      const promise = Promise.resolve(result)
      promise.then((payload) => this.#onReturned(reply, payload, true), (error) => this.#onThrown(error))
      return promise
    } catch (error) {
      this.#onThrown(error)
      throw error
    }
  }

  /** Something was thrown that Fastify turns into a reply. */
  onError (error: unknown): void {
    const code = codeOf(error)
    const isSecondReply = this.#reply?.raw.headersSent === true && HEADERS_SENT.has(code)
    // Fastify destroys the stream that it cannot send to a client that left.
    const isOfClient = this.#isClosed && code === 'ERR_STREAM_PREMATURE_CLOSE'
    if (!isSecondReply && !isOfClient && error !== this.#refusal) this.#fail(error)
  }

  sending (payload: unknown): void {
    if (this.#progress === 'left' || this.#progress === 'streaming') return
    this.#isStreamSent = this.#isStreamSent === true || isStream(payload)
    if (this.#options.flush === 'onSend') {
      // Only after the timeout of the handler does a held reply not count as sent.
      if (this.#held !== undefined) this.#takeBack(this.#held)
      this.#remember(this.#reply as FastifyReply)
    }
    this.#progress = 'passing hooks'
  }

  statusSent (status: number): void {
    this.#status ??= status
  }

  awaited (proceed: () => void, fulfilled: () => void): void {
    if (this.#handlersAtWork === 0) return proceed()
    this.#isAwaited = true
    // Over HTTP/2 Fastify leaves those waiting whose client left.
    if (this.#isClosed) return fulfilled()
    this.#awaiting.push(fulfilled)
    if (this.#held !== undefined) this.#saveOrWait(this.#held)
    // A reply that counts as sent would be taken for one that has left.
    else if (!isSentOverridden(this.#reply as FastifyReply)) proceed()
  }

  /**
   * The reply has passed all other onSend hooks.
   *
   * @param done lets it leave
   */
  pass (reply: FastifyReply, payload: unknown, done: Done): void {
    // Without the plugin the first reply would have been sent by now.
    if (this.#progress === 'held') return
    if (this.#isOver || this.#progress === 'left' || this.#progress === 'streaming') return done(null, payload)
    if (this.#replay !== undefined) payload = replay(reply, this.#replay)
    this.#keep(reply, payload)
    const isStreamed = this.#isStreamSent !== false && isStream(payload)
    this.#status ??= isResponse(payload) && !reply.raw.headersSent ? payload.status : reply.statusCode
    if (this.#status >= 500) this.turn.fail()
    const savesFirst = this.#options.flush === 'onSend' && this.turn.isToSave && isWritable(reply, payload)
    if (savesFirst && isStreamed && isWebResponse(payload)) this.#holdResponse(reply, payload, done)
    else if (savesFirst && !isStreamed) this.#saveOrWait(this.#hold(reply, payload, done))
    else this.#leave(reply, payload, done, isStreamed)
  }

  #onReturned (reply: FastifyReply, payload: unknown, isPromise: boolean): void {
    this.#handlersAtWork--
    this.#handler = payload === undefined && (!isPromise || this.#isAwaited) ? 'delegates' : 'done'
    if (this.#progress === 'open' && isSentByFastify(reply, payload, isPromise)) this.#progress = 'passing hooks'
    if (this.#held === undefined) this.#settle()
    else this.#saveOrWait(this.#held)
  }

  #onThrown (error: unknown): void {
    this.#handlersAtWork--
    if (this.#held?.isFinal === false) this.#takeBack(this.#held)
    this.#fail(error)
  }

  #fail (error: unknown): void {
    if (codeOf(error) === 'FST_ERR_HANDLER_TIMEOUT') this.turn.abort(error)
    this.turn.fail(error)
    this.#settle()
  }

  #onClosed (reply: FastifyReply, isConnectionBroken: () => boolean): void {
    if (this.#isClosed) return
    this.#isClosed = true
    const error = errorOfServer(reply, isConnectionBroken)
    if (error === undefined) {
      this.#failIfCutOff()
      this.#settle()
    } else this.#fail(error)
    if (this.#isOver) this.#sealTemp()
    else onceEnded(reply, () => this.#onEnded())
    const awaiting = this.#awaiting
    this.#awaiting = []
    for (const fulfilled of awaiting) fulfilled()
  }

  /**
   * The handler's stream is cut off where its client leaves. Where that is all the work of a turn that is handled once, it fails:
   * marked as done, its activity would never be handled to its end.
   */
  #failIfCutOff (): void {
    const isAtWork = this.#handlersAtWork > 0 || this.turn.isKeptOpen
    if (!this.#isClosed || this.#isStreamWhole?.() !== false || isAtWork) return
    this.turn.fail(new Error('the client left before the streamed reply was complete'))
  }

  #onEnded (): void {
    this.#status ??= (this.#reply as FastifyReply).statusCode
    if (this.#progress === 'open' || this.#progress === 'passing hooks') this.#progress = 'left'
    this.#settle()
  }

  /** Ends the turn if nothing more is to come of it. */
  #settle (): void {
    if (this.#isOver || !this.isWatched) return
    if (!this.turn.isToSave) return this.#end()
    if (this.#progress === 'held') return
    // Of a failed turn the reply alone is to come.
    if (!this.turn.failed && this.#handlersAtWork > 0) return
    if (!this.turn.failed && this.turn.isKeptOpen) return this.turn.whenIdle(() => this.#settle())
    if (this.#progress === 'left' || (this.#isClosed && !this.#isReplyToCome())) this.#end()
  }

  /** Whether a reply whose response is closed is still to come, with hooks that may fail. */
  #isReplyToCome (): boolean {
    const { sent } = this.#reply as FastifyReply
    if (this.#progress === 'streaming' || sent) return false
    if (this.#progress === 'passing hooks' || this.#handler === 'not called') return true
    if (this.#handler === 'delegates') this.#giveUpInTime()
    return this.#handler === 'delegates'
  }

  /** A callback handler may never call reply.send() after its client disconnected. */
  #giveUpInTime (): void {
    const left = this.#handlerCalledAt + this.#options.handlerPatience - performance.now()
    this.#givingUp ??= setTimeout(() => {
      this.#handler = 'done'
      this.#settle()
    }, Math.max(left, 0)).unref()
  }

  #end (): void {
    const { statusCode } = this.#reply as FastifyReply
    if ((this.#status ?? statusCode) >= 500) this.turn.fail()
    else if (this.turn.unusable !== undefined) this.#logUnsaved(this.turn.unusable)
    if (this.turn.replacement !== undefined) this.#logReplaced(this.turn.replacement)
    this.#endTurn()?.catch((error) => this.#logUnsaved(error))
  }

  #logUnsaved (error: unknown): void {
    const { code } = error as { code?: string }
    // That is what the turns of some conversations do.
    if (error instanceof FST_BOTAS_STATE_REPLACED) return this.#logReplaced(error)
    this.#request.log.error({ err: error, code, keys: this.turn.keys }, 'the state of a turn was not saved')
  }

  #logReplaced ({ message }: Error): void {
    this.#request.log.info({ keys: this.turn.keys }, message)
  }

  #endTurn (): Promise<void> | undefined {
    this.#isOver = true
    clearTimeout(this.#givingUp)
    clearTimeout(this.#lettingGo)
    if (this.#isClosed) this.#sealTemp()
    // A reply that was taken over has passed no hook.
    if (!this.#isKept) this.#keep(this.#reply as FastifyReply, undefined, TAKEN_OVER)
    return this.turn.end()
  }

  #sealTemp (): void {
    this.turn.state.temp.seal((scope) => new FST_BOTAS_STATE_TURN_ENDED(scope))
  }

  /** What the reply is like before its hooks. */
  #remember (reply: FastifyReply): ReplySnapshot {
    this.#before ??= snapshotOf(reply)
    return this.#before
  }

  #hold (reply: FastifyReply, payload: unknown, done: Done): HeldReply {
    this.#progress = 'held'
    this.#held = new HeldReply(reply, payload, done, this.#remember(reply))
    return this.#held
  }

  /** The body of a Response is always a stream; what is already at hand counts as whole. */
  async #holdResponse (reply: FastifyReply, payload: Response, done: Done): Promise<void> {
    const held = this.#hold(reply, payload, done)
    held.isReady = false
    const begun = (): void => { if (this.#held === held) held.countAsSent() }
    const read = await readAtHand(payload, begun).catch((error: Error) => ({ error, response: undefined }))
    if (this.#held !== held) return discard(read.response)
    if ('error' in read) {
      this.turn.fail(read.error)
      return this.#release(held, read.error)
    }
    held.payload = read.response
    held.isReady = true
    if (read.isWhole) {
      this.#keep(reply, read.response, Buffer.concat(read.chunks))
      this.#saveOrWait(held)
    } else this.#release(held, undefined, true)
  }

  /** Keeps a reply for later deliveries of the activity. */
  #keep (reply: FastifyReply, payload: unknown, body = payload): void {
    if (this.turn.admission?.isOnce !== true) return
    this.#isKept = true
    const kept = keptReply(reply, payload, body, this.#options.keepReply)
    this.turn.keep(TO_STRANGERS.includes(kept.status) ? undefined : kept)
  }

  #saveOrWait (held: HeldReply): void {
    if (held.isFinal || !held.isReady) return
    if (!this.turn.failed && this.#handlersAtWork > this.#awaiting.length) this.#wait(held)
    else this.#save(held)
  }

  /** A handler that waits for the response to leave, by whatever means, must not wait for ever. */
  #wait (held: HeldReply): void {
    held.countAsSent()
    if (this.#lettingGo !== undefined) return
    this.#lettingGo = setTimeout(() => this.#letGo(held), this.#options.holdTimeout).unref()
    held.reply.raw.on('newListener', (event) => {
      if (event === 'finish' || event === 'close') queueMicrotask(() => this.#letGo(held))
    })
  }

  /** The turn is saved when its handler is done. */
  #letGo (held: HeldReply): void {
    if (this.#held === held && !held.isFinal) this.#release(held)
  }

  #save (held: HeldReply): void {
    if (!this.turn.isToSave || (this.turn.isKeptOpen && !this.turn.failed)) return this.#release(held)
    held.isFinal = true
    const saving = this.#endTurn()
    if (saving === undefined) return this.#release(held)
    held.countAsSent()
    saving.then(() => this.#release(held), (error) => this.#release(held, error))
  }

  #release (held: HeldReply, error?: Error, isStreamed = false): void {
    if (error !== undefined) {
      this.#takeBack(held)
      // What fails while an error is sent gets the status that is there.
      if (this.turn.failed) held.reply.code((error as FastifyError).statusCode ?? 500)
      return held.done(error)
    }
    this.#held = undefined
    this.#progress = 'open'
    held.release()
    this.#leave(held.reply, held.payload, held.done, isStreamed)
  }

  #takeBack (held: HeldReply): void {
    this.#held = this.#before = undefined
    this.#progress = 'open'
    held.takeBack()
  }

  #leave (reply: FastifyReply, payload: unknown, done: Done, isStreamed: boolean): void {
    if (isStreamed) watchStream(payload, (error) => this.#onStreamFailed(reply, error))
    const isTakenOver = reply.sent
    try {
      done(null, payload)
    } catch (error) {
      restoreSent(reply)
      if (isTakenOver) this.#refusal = error
      this.onError(error as Error)
      return done(error as Error)
    }
    this.#progress = isStream(payload) && (isStreamed || this.#options.flush === 'onResponse') ? 'streaming' : 'left'
    if (isStreamed && this.turn.admission?.isOnce === true) this.#isStreamWhole = watchBody(reply)
    this.#failIfCutOff()
    this.#settle()
  }

  /** Once the client is gone Fastify destroys the stream, which is no failure of the turn's. */
  #onStreamFailed (reply: FastifyReply, error: unknown): void {
    if (!this.#isClosed && !isGone(reply)) this.#fail(error)
  }
}

/** In place of a body of which nothing is known. */
const TAKEN_OVER = {}

/** What somebody gets who was not let in. It must not keep the activity, whose id may be guessed, from being handled. */
const TO_STRANGERS = [401, 403]

/** What is thrown may have a getter that throws, for which Fastify has an answer. */
function codeOf (error: unknown): string | undefined {
  try {
    return (error as NodeJS.ErrnoException | null | undefined)?.code
  } catch {
    return undefined
  }
}

/** Where a request keeps its turn. */
export const kTurnRequest = Symbol('fastify-botas-state.turn-request')

/** The turn of a request, if it is one. */
export function turnRequestOf (request: FastifyRequest): TurnRequest | undefined {
  const found = (request as unknown as { [kTurnRequest]?: TurnRequest | null })[kTurnRequest]
  return found?.isWatched === true ? found : undefined
}

/** Whether a value is to be awaited, by the same check as Fastify. */
export function isThenable<Value> (value: unknown): value is PromiseLike<Value> {
  return typeof (value as PromiseLike<Value> | null | undefined)?.then === 'function'
}

/**
 * Whether Fastify sends what a handler returned. The conditions are those of
 * https://github.com/fastify/fastify/blob/v5.12.0/lib/wrap-thenable.js
 */
function isSentByFastify (reply: FastifyReply, payload: unknown, isPromise: boolean): boolean {
  if (reply.sent) return false
  if (payload !== undefined) return true
  const { aborted, socket } = reply.request.raw
  return isPromise && !reply.raw.headersSent && !aborted && socket != null && !socket.destroyed
}

/** The codes of a reply that failed only because there was another one before it, which wins. */
const HEADERS_SENT = new Set<string | undefined>(['ERR_HTTP_HEADERS_SENT', 'ERR_HTTP2_HEADERS_SENT'])
