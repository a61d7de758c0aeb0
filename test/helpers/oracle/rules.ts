import { isDeepStrictEqual } from 'node:util'
import type { Answer } from './client.js'
import type { Outcome } from './play.js'
import type { Payload } from './payloads.js'
import type { Program } from './program.js'
import type { By, Event } from './run.js'

/**
 * The rules of a turn, on what was seen to happen: nothing in here knows how the plugin comes to its verdict.
 */
class Story {
  readonly #program: Program
  readonly #events: Event[]
  readonly #answer: Answer | undefined

  constructor (program: Program, { events, answer }: Pick<Outcome, 'events' | 'answer'>) {
    this.#program = program
    this.#events = events
    this.#answer = answer
  }

  /** What becomes of the changes: `'either'` where the rules leave it open. */
  get fate (): 'stored' | 'dropped' | 'either' {
    const failures = this.#events.map((_event, index) => this.#failure(index))
    if (this.#isAnsweredTwiceToNobody) return 'either'
    if (failures.includes('open')) return 'dropped'
    if (this.#isTakenFromNobody) return 'either'
    if (this.#status >= 500) return this.isLeft && !this.#isHandedOver5xx ? 'either' : 'dropped'
    return failures.includes('unclear') || this.#isUnsent5xx || this.#isErrorToNobody || this.isCutOff || this.isWrittenTwice ? 'either' : 'stored'
  }

  /** Fastify goes on with what a sending hook has taken over, and may fail to write it past that, now or later. */
  get isWrittenTwice (): boolean {
    const { hooks, handler } = this.#program
    const isTaken = hooks.some(({ phase, act }) => ['preSerialization', 'onSend'].includes(phase) && act.startsWith('takes over'))
    const payloads = handler.steps.flatMap((step) => 'payload' in step ? [step.payload] : []).concat(handler.returns as Payload)
    return isTaken && (payloads.some((payload) => !PLAIN.has(payload)) || hooks.some(({ act }) => act === 'makes it a stream'))
  }

  /** An error that is sent after another reply, to a client that left. */
  get #isErrorToNobody (): boolean {
    return this.#events.some((event, index) => 'status' in event && event.status >= 500 && this.#hasLeftBefore(index))
  }

  /** Where the client left, Fastify may take a second reply for the first, since nothing was sent. */
  get #isAnsweredTwiceToNobody (): boolean {
    let pending = 0
    let replies = 0
    for (const { is } of this.#events) {
      if (is === 'handed over' || (is === 'headers' && pending === 0)) replies++
      if (is === 'handed over') pending++
      else if (is === 'headers' && pending > 0) pending--
    }
    return this.isLeft && replies > 1
  }

  /** A hook has taken over, and ended with another status, what a client that had left does not get. */
  get #isTakenFromNobody (): boolean {
    return this.isLeft && this.#program.hooks.some(({ act }) => act.startsWith('takes over'))
  }

  /**
   * Over HTTP/2 Fastify cuts off a reply that it does not take for sent: what a hook has taken over, or a large one that
   * the client is still reading when another one is sent.
   */
  get isCutOff (): boolean {
    const isSentTwice = this.#program.protocol.startsWith('HTTP/2') && this.#events.filter(({ is }) => is === 'handed over').length > 1
    return this.#answer?.end === 'broken off' && (this.isTakenOver || isSentTwice)
  }

  /** A status that is written past Fastify to a client that left is seen by nobody. */
  get #isHandedOver5xx (): boolean {
    const first = this.#events.find((event) => event.is === 'handed over')
    return first?.is === 'handed over' && first.status >= 500
  }

  /** Where the client left nothing may be sent, whatever the status was to be, or is made afterwards. */
  get #isUnsent5xx (): boolean {
    return this.isLeft && this.#program.handler.steps.some((step) => 'status' in step && step.status >= 500)
  }

  get changes (): Outcome['stored'] {
    const documentOf = (scope: string): object | undefined => {
      const keys = this.#events.flatMap((event) => event.is === 'changed' && event.scope === scope ? [[event.key, true]] : [])
      return keys.length === 0 ? undefined : Object.fromEntries(keys)
    }
    return { conversation: documentOf('conversation'), user: documentOf('user') }
  }

  /** The changes that were refused though the turn was open and had not failed. */
  get wronglyRefused (): Event[] {
    return this.#events.filter((event, index) => event.is === 'refused' &&
      this.#standing(index) === 'open' && !this.#hasFailedBefore(index) && !this.#isTooEarly(event, index) && !this.#isTooLate(index))
  }

  /** Where the client has left, Fastify may go on with what is over. */
  #isTooLate (index: number): boolean {
    const event = this.#events[index]
    const isLost = this.#hasLeftBefore(index) || this.isCutOff || this.isWrittenTwice
    if (event?.is === 'refused' && event.code === 'FST_BOTAS_STATE_FAILED' && isLost) return true
    // A reply that a callback sends to nobody, after the handler was done.
    const isReplyLate = event?.is === 'refused' && ['preSerialization', 'onSend'].includes(event.by) && this.#before(index, ({ is }) => is === 'the handler is done')
    if (isReplyLate && this.#hasLeftBefore(index)) return true
    return this.#hasLeftBefore(index) && this.#isCalledAfterAnswer
  }

  /** Where a hook answered a client that had left, Fastify may call the handler, whose turn is over. */
  get #isCalledAfterAnswer (): boolean {
    return this.#before(this.#index(({ is }) => is === 'the handler begins'), ({ is }) => is === 'handed over')
  }

  /** Where a hook answered before the state was loaded, there is none for the hooks of the reply. */
  #isTooEarly (event: Event & { is: 'refused' }, index: number): boolean {
    return ['preSerialization', 'onSend'].includes(event.by) && event.code === 'FST_BOTAS_STATE_NOT_LOADED' &&
      !this.#before(index, ({ is }) => is === 'the handler begins')
  }

  /** Where the handler throws while its whole reply waits for it, with `flush: 'onSend'`. */
  get thrownWhileWaiting (): 'no' | 'yes' | 'perhaps' {
    const thrown = this.#index((event) => event.is === 'failed' && event.by === 'handler' && event.why === 'threw')
    const handed = this.#index(({ is }) => is === 'handed over')
    if (this.#program.flush !== 'onSend' || thrown < 0 || handed < 0 || handed > thrown) return 'no'
    const event = this.#events[handed]
    if (event?.is === 'handed over' && event.streamed) return 'no'
    if (this.#before(thrown, ({ is }) => is === 'the handler had its reply')) return 'no'
    // A turn that failed before, a handler without a promise, or a reply that a hook takes over has nothing to wait for.
    return this.#program.handler.style === 'callback' || this.#hasFailedBefore(thrown) || this.isTakenOver ? 'perhaps' : 'yes'
  }

  /** Whether the reply leaves only when its turn is saved, so that a save that fails takes its place. */
  get isSavedBeforeReply (): boolean {
    const event = this.#events.find(({ is }) => is === 'handed over' || is === 'headers')
    return this.#program.flush === 'onSend' && event?.is === 'handed over' && !event.streamed &&
      !this.isLeft && !this.#events.some(({ is }) => is === 'waitUntil') && !this.isTakenOver
  }

  /** A hook took over the reply. */
  get isTakenOver (): boolean {
    return this.#program.hooks.some(({ act }) => act.startsWith('takes over')) && this.#events.some(({ is }) => is === 'headers')
  }

  /** Whether the client left, be it after the answer and in the middle of its next message. */
  get isLeft (): boolean {
    return this.#events.some(({ is }) => is === 'the client left')
  }

  /** The status that the client gets, or would have got. */
  get #status (): number {
    const replaced = this.#events.findIndex((event, index) => event.is === 'failed' && (event.why === SAVE_FAILED || this.#isOfClient(index)))
    const events = replaced < 0 ? this.#events : this.#events.slice(0, replaced)
    const sent = events.find((event) => event.is === 'headers') ?? events.findLast((event) => event.is === 'handed over')
    return sent !== undefined && 'status' in sent ? sent.status : 0
  }

  #failure (index: number): 'no' | 'open' | 'unclear' | 'over' {
    const event = this.#events[index]
    if (event?.is !== 'failed' || event.why === SAVE_FAILED || this.#isOfClient(index)) return 'no'
    // The hooks run for the error of a save as well.
    if (this.#before(index, (before) => before.is === 'failed' && before.why === SAVE_FAILED)) return 'no'
    // Nobody can tell whether a stream failed by itself or was destroyed because of the client.
    return event.by === 'stream' && this.#hasLeftBefore(index) ? 'unclear' : this.#standing(index)
  }

  /** Whether an error says no more than that Fastify destroyed a stream because the client had left. */
  #isOfClient (index: number): boolean {
    const event = this.#events[index]
    return event?.is === 'failed' && event.why === 'ERR_STREAM_PREMATURE_CLOSE' && this.#hasLeftBefore(index)
  }

  #hasLeftBefore (index: number): boolean {
    return this.#before(index, ({ is }) => is === 'the client left')
  }

  /** Whether the turn was open when something happened. */
  #standing (index: number): 'open' | 'unclear' | 'over' {
    const event = this.#events[index]
    const by = event !== undefined && 'by' in event ? event.by : 'handler'
    if (by !== 'handler' && by !== 'work') {
      return this.#isOfSecondReply(index, by) || this.#isAfterTakeover(index) || this.#isAfterAnswer(index, by) ? 'unclear' : 'open'
    }
    if (this.#hasLeftBefore(index) && this.#program.hooks.some(({ act }) => act.startsWith('takes over'))) return 'unclear'
    if (this.#hasLeftBefore(index) && this.#isCalledAfterAnswer) return 'unclear'
    if (this.#isKeptOpen(index)) return 'open'
    const handed = this.#before(index, ({ is }) => is === 'handed over' || is === 'headers')
    if (this.#program.handler.style === 'callback') return this.#ofCallback(index, handed)
    if (this.#program.flush === 'onResponse' || !this.#hadWholeReply(index)) return 'open'
    // The promise of a waitUntil() that settled meanwhile, or a client that left: the turn ends at about the same time.
    return this.#before(index, ({ is }) => is === 'waitUntil') || this.#hasLeftBefore(index) ? 'unclear' : 'over'
  }

  /** A hook has taken over and ended the reply, and others go on. */
  #isAfterTakeover (index: number): boolean {
    return this.#program.hooks.some(({ act }) => act.startsWith('takes over')) &&
      this.#before(index, ({ is }) => is === 'headers' || is === 'the client left')
  }

  /** A hook that answers ends the turn with its reply; Fastify calls the next ones as long as that waits for hooks. */
  #isAfterAnswer (index: number, by: By): boolean {
    return ['preValidation', 'preHandler'].includes(by) && this.#before(index, ({ is }) => is === 'headers')
  }

  /** Fastify goes on with a second reply where the client left before the first was sent. */
  #isOfSecondReply (index: number, by: By): boolean {
    const replies = this.#events.slice(0, index).filter(({ is }) => is === 'handed over').length
    return this.#hasLeftBefore(index) && by !== 'stream' && replies > (by === 'onSend' ? 1 : 0)
  }

  /** A handler without a promise is over when its reply has passed the hooks: that may be at once. A throw of its own is not too late. */
  #ofCallback (index: number, handed: boolean): 'open' | 'unclear' {
    const event = this.#events[index]
    return !handed || (event?.is === 'failed' && event.why === 'threw') ? 'open' : 'unclear'
  }

  /** The handler awaited its reply, which was whole: with `flush: 'onSend'` it left when the turn had been saved. */
  #hadWholeReply (index: number): boolean {
    return this.#before(index, ({ is }) => is === 'the handler had its reply') &&
      this.#events.find((event) => event.is === 'handed over' || event.is === 'headers')?.is === 'handed over' &&
      !this.#events.some((event) => event.is === 'handed over' && event.streamed)
  }

  /** Whether a promise given to waitUntil() in time is pending. */
  #isKeptOpen (index: number): boolean {
    let pending = 0
    for (const [before, event] of this.#events.slice(0, index).entries()) {
      if (event.is === 'waitUntil' && this.#standing(before) === 'open') pending++
      if (event.is === 'waitUntil is over' || (event.is === 'failed' && event.by === 'work')) pending--
    }
    return pending > 0
  }

  #hasFailedBefore (index: number): boolean {
    return this.#before(index, (event) => event.is === 'failed' || ('status' in event && event.status >= 500))
  }

  #before (index: number, matches: (event: Event) => boolean): boolean {
    return this.#events.slice(0, index).some(matches)
  }

  #index (matches: (event: Event) => boolean): number {
    return this.#events.findIndex(matches)
  }
}

/** What Fastify writes at once, or not at all. */
const PLAIN = new Set<string>(['an object', 'a text', 'a buffer', 'a large object', 'undefined', 'the reply'])

const SAVE_FAILED = 'FST_BOTAS_STATE_SAVE_FAILED'
const LOAD_FAILED = 'FST_BOTAS_STATE_LOAD_FAILED'

/** Whether a program is judged by what bare Fastify makes of it without what the handler sends. */
export function needsErrorReply (program: Program, outcome: Outcome): boolean {
  return new Story(program, outcome).thrownWhileWaiting !== 'no'
}

/** What is wrong with the outcome of a program, beside that of bare Fastify. */
export function complaints (program: Program, bare: Outcome, withPlugin: Outcome, nothingSent: Outcome | undefined): string[] {
  const story = new Story(program, withPlugin)
  const isEmpty = isDeepStrictEqual(story.changes, { conversation: undefined, user: undefined })
  const isToBeSaved = story.fate !== 'dropped' && !isEmpty
  const expected = !isToBeSaved || program.broken === 'update' ? { conversation: undefined, user: undefined } : story.changes
  const about = [
    ...aboutAnswer(program, story, { bare, withPlugin, nothingSent }, isToBeSaved),
    ...aboutStored(program, story, withPlugin, expected),
    ...aboutReports(program, story, withPlugin, isToBeSaved),
    ...aboutRemains(bare, withPlugin)
  ]
  if (story.wronglyRefused.length > 0) about.push('a change was refused though the turn was open')
  if (ran(bare) !== ran(withPlugin) && !failedWith(withPlugin, LOAD_FAILED) && !story.isLeft) about.push('the handler ran in one of the two only')
  return about
}

interface Outcomes { bare: Outcome, withPlugin: Outcome, nothingSent: Outcome | undefined }

function aboutAnswer (program: Program, story: Story, { bare, withPlugin, nothingSent }: Outcomes, isToBeSaved: boolean): string[] {
  const { answer } = withPlugin
  if (answer === undefined || bare.answer === undefined) return []
  if ([story, new Story(program, bare)].some(({ isCutOff, isTakenOver }) => isCutOff && !isTakenOver)) return []
  if (failedWith(withPlugin, LOAD_FAILED)) return aboutStateError(program, answer, LOAD_FAILED)
  if (isToBeSaved && program.broken === 'update' && story.fate === 'stored' && story.isSavedBeforeReply) return aboutStateError(program, answer, SAVE_FAILED)
  if (isToBeSaved && program.broken === 'update' && failedWith(withPlugin, SAVE_FAILED)) return []
  const isAsBare = isSameAnswer(answer, bare.answer)
  const isErrorReply = nothingSent?.answer !== undefined && isSameError(answer, nothingSent.answer)
  switch (story.thrownWhileWaiting) {
    case 'no': return isAsBare ? [] : ['the answer is not that of bare Fastify']
    case 'yes': return isErrorReply ? [] : ['the answer is not the error that was thrown while the reply waited']
    case 'perhaps': return isAsBare || isErrorReply ? [] : ['the answer is neither that of bare Fastify nor the error']
  }
}

/** An error of the state takes the place of the reply. */
function aboutStateError ({ errorHandler, hooks }: Program, { status, body }: Answer, code: string): string[] {
  // The hooks run for that reply as well.
  if (hooks.some(({ phase, act }) => ['preSerialization', 'onSend'].includes(phase) && act === 'throws')) return []
  const expected = { none: 500, 'answers 200': 200, 'answers 418 later': 418 }[errorHandler]
  return status === expected && body.includes(code) ? [] : [`the answer is not ${expected} with ${code}`]
}

/** What arrived before a reply broke off is a matter of time. */
function isSameAnswer (one: Answer, other: Answer | undefined): boolean {
  return one.end === 'broken off' ? one.end === other?.end && one.status === other.status : isDeepStrictEqual(one, other)
}

/** Hooks may have left their headers for the reply that waited. */
function isSameError (one: Answer, other: Answer): boolean {
  return one.status === other.status && one.body === other.body && one.end === other.end &&
    one.headers['content-type'] === other.headers['content-type']
}

function aboutStored ({ broken }: Program, story: Story, { stored, next }: Outcome, expected: Outcome['stored']): string[] {
  const about: string[] = []
  const nothing = { conversation: undefined, user: undefined }
  const isExpected = isDeepStrictEqual({ ...stored }, expected) || (story.fate === 'either' && isDeepStrictEqual(stored, nothing))
  if (!isExpected) about.push(`stored is not what the turn's rule says (${story.fate}): ${JSON.stringify(expected)}`)
  if (next !== undefined && broken !== 'read' && !story.isLeft && !story.isWrittenTwice) {
    const { conversation = {}, user = {} } = stored
    if (next.body !== JSON.stringify({ conversation, user })) about.push('the next message did not find what was stored')
  }
  return about
}

function aboutReports ({ broken }: Program, story: Story, outcome: Outcome, isToBeSaved: boolean): string[] {
  const isReported = failedWith(outcome, SAVE_FAILED) || outcome.log.some((line) => line.includes(SAVE_FAILED))
  const about = outcome.log.filter((line) => /FST_BOTAS_STATE|before all turns were over/.test(line) && !/SAVE_FAILED|LOAD_FAILED/.test(line))
    .map((line) => `logged for no reason: ${JSON.parse(line).msg}`)
  if (isReported && !(isToBeSaved && broken === 'update')) about.push('a save is reported as failed that did not fail')
  if (!isReported && isToBeSaved && broken === 'update' && story.fate === 'stored') about.push('a save that failed is not reported')
  return about
}

function aboutRemains (bare: Outcome, { openTurns, uncaught, closing, listeners, next }: Outcome): string[] {
  const about = uncaught.map((error) => `nobody caught: ${error}`)
  if (openTurns > 0) about.push(`${openTurns} turn is still open`)
  if (closing > 2500) about.push(`close() took ${Math.round(closing)} ms`)
  const more = Object.keys(listeners).filter((event) => (listeners[event] ?? 0) > (bare.listeners[event] ?? 0))
  if (next?.end === 'complete' && more.length > 0) about.push(`listeners are left on the connection: ${more.join(', ')}`)
  return about
}

function failedWith ({ events }: Outcome, code: string): boolean {
  return events.some((event) => event.is === 'failed' && event.why === code)
}

function ran ({ events }: Outcome): number {
  return events.filter(({ is }) => is === 'the handler begins').length
}
