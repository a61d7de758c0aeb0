import fc from 'fast-check'
import { type Payload, payloads } from './payloads.js'

export type Scope = 'conversation' | 'user'

/** What a handler does, one after the other. What makes no sense where it stands is passed over, see `perform`. */
export type Step =
  { do: 'change', scope: Scope } |
  { do: 'wait', ms: number } |
  { do: 'send', payload: Payload, status: number } |
  { do: 'send later', payload: Payload, ms: number } |
  { do: 'set status', status: number } |
  { do: 'throw' } |
  { do: 'take over', hijack: boolean, status: number, ms: number } |
  { do: 'await reply' } |
  { do: 'fail' } |
  { do: 'waitUntil', ms: number, rejects: boolean } |
  { do: 'client leaves' }

export interface Handler {
  /** a callback handler gives no promise */
  style: 'async' | 'callback'
  steps: Step[]
  returns: Payload | 'undefined' | 'the reply'
}

/** When a hook does what it does, and how its end is told. */
type Style = 'callback' | 'async' | 'slow'

export interface Hook {
  phase: 'onRequest' | 'preValidation' | 'preHandler' | 'preSerialization' | 'onSend'
  /** of the app, added before or after the plugin; of the route; or given to routes by a plugin that was loaded later */
  owner: 'before' | 'after' | 'route' | 'onRoute'
  style: Style
  changes: boolean
  act:
    'passes' | 'throws' | 'answers' | 'answers and returns the reply' | 'takes over' | 'takes over and calls nothing back' |
    'makes it a stream' | 'is left' | 'is left for long' | 'is left for long and throws'
}

export interface Program {
  protocol: 'HTTP/1.1' | 'TLS' | 'HTTP/2' | 'HTTP/2 over TLS'
  /** whether the inspector watches the turns */
  isInspected: boolean
  registered: 'awaited' | 'in the same tick' | 'before a child' | 'last'
  flush: 'onResponse' | 'onSend'
  storage: StorageKind
  /** milliseconds of one call after the other, of the delayed storage */
  latencies: number[]
  broken: 'nothing' | 'read' | 'update'
  errorHandler: 'none' | 'answers 200' | 'answers 418 later'
  hooks: Hook[]
  handler: Handler
  client: 'sends the next message' | 'waits'
}

export type StorageKind = 'memory' | 'file' | 'delayed' | 'redis'

const ms = fc.constantFrom(1, 3, 7, 12)
const status = fc.oneof({ weight: 6, arbitrary: fc.constant(200) }, { weight: 3, arbitrary: fc.constantFrom(201, 403, 503) })
const payload = fc.oneof(
  { weight: 3, arbitrary: fc.constant<Payload>('an object') },
  { weight: 2, arbitrary: fc.constantFrom(...Object.keys(payloads) as Payload[]) })
const change = fc.record({ do: fc.constant('change' as const), scope: fc.constantFrom<Scope>('conversation', 'user') })

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: change },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('wait' as const), ms }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('send' as const), payload, status }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('send later' as const), payload, ms }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('set status' as const), status }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('throw' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('take over' as const), hijack: fc.boolean(), status, ms: fc.constantFrom(0, 2, 5) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('await reply' as const, 'fail' as const, 'client leaves' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('waitUntil' as const), ms, rejects: fc.boolean() }) })

const handler: fc.Arbitrary<Handler> = fc.record({
  style: fc.constantFrom('async', 'async', 'callback'),
  steps: fc.array(step, { maxLength: 6, size: 'max' }),
  returns: fc.oneof(
    { weight: 2, arbitrary: fc.constant('undefined' as const) }, fc.constant('the reply' as const), { weight: 2, arbitrary: payload })
})

const beforeHandler = fc.constantFrom<Hook['act']>(
  'passes', 'passes', 'passes', 'throws', 'answers', 'answers and returns the reply', 'takes over')
const sending = fc.constantFrom<Hook['act']>('passes', 'passes', 'passes', 'throws', 'takes over', 'takes over and calls nothing back', 'is left')
const left = fc.constantFrom<Hook['act']>(...Array<'is left'>(12).fill('is left'), 'is left for long', 'is left for long and throws')

function hookOf (phase: Hook['phase'], act: fc.Arbitrary<Hook['act']>, ...more: Array<Hook['owner']>): fc.Arbitrary<Hook> {
  return fc.record({
    phase: fc.constant(phase),
    owner: fc.constantFrom('after', 'before', 'route', ...more),
    style: fc.constantFrom<Style>('callback', 'async', 'slow'),
    changes: fc.boolean(),
    act
  })
}

const hook = fc.oneof(
  hookOf('onRequest', beforeHandler),
  hookOf('preValidation', fc.oneof({ weight: 6, arbitrary: beforeHandler }, left)),
  hookOf('preHandler', fc.oneof({ weight: 6, arbitrary: beforeHandler }, left)),
  hookOf('preSerialization', sending),
  hookOf('onSend', fc.oneof({ weight: 6, arbitrary: sending }, fc.constant('makes it a stream' as const)), 'onRoute'))

/** Random programs for one storage and one setting of `flush`. */
export function programs (storage: StorageKind, flush: Program['flush']): fc.Arbitrary<Program> {
  return fc.record({
    protocol: fc.constantFrom<Program['protocol']>('HTTP/1.1', 'TLS', 'HTTP/2', 'HTTP/2 over TLS'),
    registered: fc.constantFrom<Program['registered']>('awaited', 'in the same tick', 'before a child', 'last'),
    flush: fc.constant(flush),
    storage: fc.constant(storage),
    latencies: storage === 'delayed' ? fc.array(fc.nat(15), { minLength: 1, maxLength: 4 }) : fc.constant<number[]>([]),
    broken: storage === 'delayed' ? fc.constantFrom<Program['broken']>('nothing', 'nothing', 'read', 'update', 'update') : fc.constant<Program['broken']>('nothing'),
    errorHandler: fc.constantFrom<Program['errorHandler']>('none', 'none', 'answers 200', 'answers 418 later'),
    hooks: fc.oneof({ weight: 3, arbitrary: fc.constant<Hook[]>([]) }, { weight: 4, arbitrary: fc.array(hook, { maxLength: 3, size: 'max' }) }),
    handler,
    client: fc.constantFrom<Program['client']>('sends the next message', 'sends the next message', 'waits'),
    isInspected: fc.boolean()
  }).map((program) => ({ ...program, [fc.toStringMethod]: () => describe(program) }))
}

/** How many milliseconds hooks keep a client that left waiting "for long". */
export const LONG = 1500

/** The milliseconds that the plugin is given to save: few where a program outlasts them, or where only they end its turn. */
export function flushTimeout ({ hooks, handler }: Program): number {
  const isLeft = handler.steps.some((step) => step.do === 'client leaves') || hooks.some(({ act }) => act.startsWith('is left'))
  // A reply that is left to somebody else, or goes past Fastify, may never come where there is no client.
  const isSilent = handler.style === 'callback' || handler.returns === 'the reply' || handler.steps.some((step) => step.do === 'await reply')
  return (isLeft && isSilent) || hooks.some(({ act }) => act.startsWith('is left for long')) ? LONG - 300 : 5000
}

function describe ({ hooks, handler, latencies, broken, ...rest }: Program): string {
  const storage = rest.storage === 'delayed' ? [`delayed by ${latencies.join(', ')} ms, ${broken} fails`] : [rest.storage]
  return [
    '',
    `${rest.protocol}, flush: ${rest.flush}, storage: ${storage}, plugin registered ${rest.registered}${rest.isInspected ? ', inspected' : ''}`,
    `client ${rest.client}, error handler: ${rest.errorHandler}`,
    ...hooks.map(({ phase, owner, style, changes, act }) => `${phase} hook (${owner}, ${style})${changes ? ' changes the state,' : ''} ${act}`),
    `${handler.style} handler:`,
    ...handler.steps.map(({ do: what, ...rest }) => `  ${what} ${Object.entries(rest).map(([name, value]) => `${name}: ${value}`).join(', ')}`),
    `  return ${handler.returns}`,
    ''
  ].join('\n')
}
