import type { FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'
import { clientLeaves } from './hooks.js'
import { payloads, type Payload } from './payloads.js'
import type { Scope, Step } from './program.js'
import { type By, type Event, type Run, Thrown } from './run.js'

/** What a program uses of `request.state`. */
export interface State extends Record<Scope, { set: (key: string, value: unknown) => void }> {
  fail?: (error?: Error) => void
  waitUntil?: (promise: Promise<unknown>) => void
}

/** Changes the state, and notes whether the change was taken. */
export function change (run: Run, state: State, scope: Scope, by: By): void {
  const key = `${by} ${run.events.length}`
  try {
    state[scope].set(key, true)
    run.note({ is: 'changed', by, scope, key })
  } catch (error) {
    run.note({ is: 'refused', by, scope, code: codeOf(error) })
  }
}

export function codeOf (error: unknown): string {
  const { code, message } = error as { code?: string, message: string }
  return code ?? message
}

/** The handler of a program. */
export function handlerOf (run: Run): RouteHandlerMethod {
  const { style } = run.program.handler
  return style === 'async'
    ? (request, reply) => run.during(() => awaited(run, request, reply))
    : (request, reply) => callingBack(run, request, reply)
}

async function awaited (run: Run, request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
  try {
    const steps = perform(run, request, reply)
    let step = steps.next()
    while (step.done !== true) {
      await step.value
      step = steps.next()
    }
    run.note({ is: 'the handler is done' })
    // Fastify sends an empty reply then, and it depends on a microtask whether that or a stream is first.
    if (step.value === undefined && !reply.raw.headersSent) run.interfere()
    return step.value
  } catch (error) {
    throw noted(run, error)
  }
}

/** Runs the steps without a promise. What fails after a pause is sent as an error, as callback handlers do. */
function callingBack (run: Run, request: FastifyRequest, reply: FastifyReply): unknown {
  const steps = perform(run, request, reply)
  let result: unknown
  let isCalling = true
  run.busy++
  const proceed = (): void => {
    const step = steps.next()
    if (step.done !== true) {
      Promise.resolve(step.value).then(later)
      return
    }
    run.busy--
    if (run.isHandedOver || (isSilent(run) && run.has('the client left'))) return
    if (isCalling && step.value !== undefined) result = step.value
    else reply.send(step.value ?? { sent: 'at last' })
  }
  const later = (): void => {
    try {
      proceed()
    } catch (error) {
      run.busy--
      reply.send(error)
    }
  }
  try {
    proceed()
  } catch (error) {
    run.busy--
    throw noted(run, error)
  }
  isCalling = false
  run.note({ is: 'the handler is done' })
  return result
}

function isSilent ({ program }: Run): boolean {
  return program.handler.returns === 'undefined'
}

function noted (run: Run, error: unknown): unknown {
  run.note({ is: 'failed', by: 'handler', why: error instanceof Thrown ? 'threw' : codeOf(error) })
  return error
}

/** What a handler waits for; a handler without a promise does not wait for its reply. */
type Pause = Promise<unknown> | FastifyReply

/** Goes through the steps of a handler, pauses where one has to be waited for, and gives what the handler returns. */
function * perform (run: Run, request: FastifyRequest, reply: FastifyReply): Generator<Pause, unknown, void> {
  const { style, steps, returns } = run.program.handler
  run.note({ is: 'the handler begins' })
  run.interfere()
  for (const step of steps) {
    const pause = take(run, step, request, reply)
    if (pause !== undefined && (pause !== reply || style === 'async')) yield pause
    if (pause === reply && style === 'async') run.note({ is: 'the handler had its reply' })
  }
  // What returns the reply without having sent one would wait for ever.
  if (returns === 'the reply') return run.isHandedOver ? reply : undefined
  if (returns === 'undefined' || run.mode === 'bare, nothing sent') return undefined
  return payloads[returns](run)
}

function take (run: Run, step: Step, request: FastifyRequest, reply: FastifyReply): Pause | undefined {
  switch (step.do) {
    case 'change': return change(run, request.state, step.scope, 'handler') as undefined
    case 'wait': return run.clock.wait(step.ms)
    case 'send': return send(run, reply, step.payload, step.status) as undefined
    case 'send later': return sendLater(run, reply, step.payload, step.ms) as undefined
    case 'set status':
      run.interfere()
      reply.code(step.status)
      return
    case 'throw': throw new Thrown('thrown by the handler')
    case 'take over': return takeOver(run, step, reply) as undefined
    case 'await reply': return run.isHandedOver ? reply : undefined
    case 'fail': return fail(run, request.state) as undefined
    case 'waitUntil': return waitUntil(run, step, request.state) as undefined
    case 'client leaves': return clientLeaves(run, request.raw)
  }
}

function send (run: Run, reply: FastifyReply, payload: Payload, status: number): void {
  if (status !== 200) {
    run.interfere()
    reply.code(status)
  }
  run.isHandedOver = true
  if (payload === 'an object as text/plain') reply.type('text/plain')
  if (run.mode !== 'bare, nothing sent') reply.send(payloads[payload](run))
}

function sendLater (run: Run, reply: FastifyReply, payload: Payload, ms: number): void {
  run.isHandedOver = true
  const sendIt = (): void => {
    const { style, returns } = run.program.handler
    // A handler that returned nothing after its client left is over: Fastify sends nothing, and waits for nothing.
    const isOver = style === 'async' && returns === 'undefined' && run.has('the client left') && run.has('the handler is done')
    if (!isOver) send(run, reply, payload, 200)
  }
  run.clock.wait(ms).then(sendIt).catch((error) => run.uncaught.push(codeOf(error)))
}

function takeOver (run: Run, { hijack, status, ms }: Step & { do: 'take over' }, reply: FastifyReply): void {
  // What was sent cannot be taken over, and what is sent as usual is not to be sent twice.
  if (run.isHandedOver || reply.raw.headersSent) return
  run.interfere()
  run.isHandedOver = true
  if (hijack) reply.hijack()
  reply.raw.writeHead(status, { 'x-taken': 'over' }).write('first ')
  // What was not taken over by its name is Fastify's until it is ended.
  if (!hijack || ms === 0) reply.raw.end('last')
  else run.during(() => run.clock.wait(ms).then(() => { reply.raw.end('last') })).catch((error) => run.uncaught.push(codeOf(error)))
}

function fail (run: Run, state: State): void {
  if (state.fail === undefined) return
  const event: Event = { is: 'failed', by: 'handler', why: 'fail()' }
  run.note(event)
  state.fail(new Error('failed'))
}

function waitUntil (run: Run, { ms, rejects }: Step & { do: 'waitUntil' }, state: State): void {
  if (state.waitUntil === undefined) return
  run.note({ is: 'waitUntil' })
  const work = run.during(async () => {
    await run.clock.wait(ms)
    change(run, state, 'user', 'work')
    run.note(rejects ? { is: 'failed', by: 'work', why: 'rejected' } : { is: 'waitUntil is over' })
    if (rejects) throw new Error('rejected')
  })
  work.catch(() => {})
  try {
    state.waitUntil(work)
  } catch (error) {
    run.note({ is: 'refused', by: 'handler', scope: 'user', code: codeOf(error) })
  }
}
