import type { FastifyInstance, FastifyReply, FastifyRequest, RouteShorthandOptions, onSendHookHandler } from 'fastify'
import { Readable } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import { gone } from './clients.js'
import { change } from './handler.js'
import { type Hook, LONG, type Program } from './program.js'
import type { Run } from './run.js'

type Done = (error?: Error | null, payload?: unknown) => void

/** Adds the hooks of a program that belong to one owner. */
export function addHooks (run: Run, app: FastifyInstance, owner: Hook['owner']): void {
  for (const { phase, hook } of hooksOf(run, owner)) app.addHook(phase as 'onSend', hook)
}

/** The hooks that a program gives to its route, as options of the route. */
export function hooksOfRoute (run: Run): RouteShorthandOptions {
  const hooks = hooksOf(run, 'route')
  return Object.fromEntries(hooks.map(({ phase }) => [phase, hooks.filter((other) => other.phase === phase).map(({ hook }) => hook)]))
}

/** Gives the route the onSend hooks that a program keeps for this, in the manner of @fastify/compress. */
export function addHooksOnRoute (run: Run, app: FastifyInstance): void {
  app.addHook('onRoute', (route) => {
    if (route.url === '/') route.onSend = [route.onSend ?? []].flat().concat(hooksOf(run, 'onRoute').map(({ hook }) => hook))
  })
}

/** All hooks are typed as one of them: which phase they are for is known only when the program runs. */
function hooksOf (run: Run, owner: Hook['owner']): Array<{ phase: Hook['phase'], hook: onSendHookHandler }> {
  return run.program.hooks.flatMap((hook, index) =>
    hook.owner === owner ? [{ phase: hook.phase, hook: hookOf(run, hook, index) as onSendHookHandler }] : [])
}

type Outcome = { error?: Error, payload?: unknown, nothing?: boolean }
type Act = (request: FastifyRequest, reply: FastifyReply, payload?: unknown) => Outcome | Promise<Outcome>

function hookOf (run: Run, hook: Hook, index: number) {
  const isSending = hook.phase === 'onSend' || hook.phase === 'preSerialization'
  let calls = 0
  const act: Act = (request, reply, payload) => {
    if (!isSending) run.interfere()
    reply.header(`x-hook-${index}`, 'passed')
    if (hook.changes && canChange(run.program, hook)) change(run, request.state, index % 2 === 0 ? 'conversation' : 'user', hook.phase)
    return perform(run, hook.phase, calls++ === 0 ? hook.act : 'passes', reply, payload)
  }
  // A hook whose client leaves has to wait for that: it gives a promise whatever its style is.
  if (hook.style === 'callback' && !hook.act.startsWith('is left')) return callback(act as CallbackAct, isSending)
  return isSending ? sendingLater(run, hook, act) : later(run, hook, act)
}

type CallbackAct = (...call: Parameters<Act>) => Outcome

function callback (act: CallbackAct, isSending: boolean) {
  const call = (request: FastifyRequest, reply: FastifyReply, payload: unknown, done: Done) => {
    if (!isFirst(request)) return done()
    const { error, nothing, payload: changed } = act(request, reply, payload)
    if (nothing !== true) done(error, changed)
  }
  return isSending ? call : (request: FastifyRequest, reply: FastifyReply, done: Done) => call(request, reply, undefined, done)
}

function later (run: Run, { style, act: what }: Hook, act: Act) {
  return async (request: FastifyRequest, reply: FastifyReply) => {
    if (!isFirst(request)) return
    return run.during(async () => {
      if (style === 'slow') await run.clock.wait(2)
      const { error } = await act(request, reply)
      if (error !== undefined) throw error
      if (what === 'answers and returns the reply') return reply
      if (style === 'slow') await run.clock.wait(2)
    })
  }
}

function sendingLater (run: Run, { style }: Hook, act: Act) {
  return (request: FastifyRequest, reply: FastifyReply, payload: unknown) => {
    if (!isFirst(request)) return Promise.resolve()
    run.replying++
    const acting = run.during(async () => {
      if (style === 'slow') await run.clock.wait(2)
      const { error, payload: changed } = await act(request, reply, payload)
      if (error !== undefined) throw error
      return changed
    })
    // Fastify goes on in the very next reaction to this promise.
    const release = (): void => { run.replying-- }
    acting.then(release, release)
    return acting
  }
}

function perform (run: Run, phase: Hook['phase'], act: Hook['act'], reply: FastifyReply, payload: unknown): Outcome | Promise<Outcome> {
  switch (act) {
    case 'passes': return {}
    case 'throws': return { error: failed(run, phase) }
    case 'answers':
    case 'answers and returns the reply':
      reply.code(403).send({ answered: 'by a hook' })
      return { nothing: true }
    case 'takes over':
    case 'takes over and calls nothing back':
      // Nobody can take over what has begun to leave. After an error bare Fastify cuts the connection of who takes over, sooner or later.
      if (reply.raw.headersSent || run.hasError) return {}
      reply.hijack().raw.end('taken over by a hook')
      return { nothing: act !== 'takes over' }
    case 'makes it a stream':
      if (typeof payload !== 'string') return {}
      run.streaming()
      reply.removeHeader('content-length')
      return { payload: Readable.from([payload.slice(0, 3), payload.slice(3)]) }
    case 'is left': return leave(run, reply, 0)
    case 'is left for long': return leave(run, reply, LONG)
    case 'is left for long and throws': return leave(run, reply, LONG).then(() => ({ error: failed(run, phase) }))
  }
}

async function leave (run: Run, { raw }: FastifyReply, ms: number): Promise<Outcome> {
  await clientLeaves(run, raw.req as Parameters<typeof gone>[0])
  await wait(ms)
  return {}
}

/** Has the client leave, and resolves when the server has noticed. */
export async function clientLeaves (run: Run, request: Parameters<typeof gone>[0]): Promise<void> {
  run.note({ is: 'the client left' })
  run.leave()
  await gone(request)
}

function failed (run: Run, by: Hook['phase']): Error {
  run.note({ is: 'failed', by, why: 'threw' })
  run.streamOver()
  return new Error('thrown by a hook')
}

/** The next message is not in the way of the hooks. */
function isFirst ({ url }: FastifyRequest): boolean {
  return url === '/'
}

/** Whether a hook comes after the one of the plugin that loads the state. */
function canChange ({ registered }: Program, { phase, owner }: Hook): boolean {
  if (phase === 'onRequest') return false
  if (phase !== 'preValidation' || owner === 'route') return true
  return owner === 'after' && (registered === 'awaited' || registered === 'before a child')
}
