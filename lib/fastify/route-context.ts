import type { FastifyInstance, FastifyReply, FastifyRequest, RouteHandlerMethod, RouteOptions, onSendHookHandler } from 'fastify'

/** What the plugin adds to a route. */
export interface RouteAdditions {
  /** Calls the handler, and sees what becomes of it. */
  callHandler(handler: RouteHandlerMethod, server: FastifyInstance, request: FastifyRequest, reply: FastifyReply): unknown
  /** Runs after all other onSend hooks: only the last one knows that none has failed. */
  lastOnSend: onSendHookHandler
}

/** What Fastify runs for the requests of a route: the context of one that is declared, or the options of one that will be. */
type Route = Pick<RouteOptions, 'handler' | 'onSend'>

const kCompleted = Symbol('fastify-botas-state.completed')

/**
 * Completes routes with what the plugin adds to them. No public hook of Fastify's reaches a route that was declared before
 * the plugin was loaded, which is any route in the same tick as a registration that is not awaited, nor comes after what
 * later onRoute hooks add. The context of a route does, at its first turn. Fastify 5 (5.8 to 5.12) keeps that under a symbol:
 * see https://github.com/fastify/fastify/blob/v5.12.0/lib/symbols.js
 *
 * @returns completes the route of a request
 */
export function routeCompletion (fastify: FastifyInstance, additions: RouteAdditions): (request: FastifyRequest) => void {
  const kRouteContext = symbolOf(replyPrototypeOf(fastify), 'fastify.context')
  if (kRouteContext === undefined) {
    fastify.addHook('onRoute', (route) => complete(route, additions))
    fastify.log.warn('this version of Fastify hides its routes from fastify-botas-state: await the registration of the plugin ' +
      'before you declare routes, or turns that fail on them may be saved')
    return () => {}
  }
  return (request) => {
    const context: CompletableContext = Reflect.get(request, kRouteContext)
    if (context[kCompleted] === context) return
    context[kCompleted] = context
    complete(context, additions)
    completeNotFound(context, additions)
  }
}

interface CompletableContext extends Route {
  /** itself: the context of a 404 inherits from another one */
  [kCompleted]?: CompletableContext
}

/** Where a handler calls `reply.callNotFound()`, Fastify goes on with another context. */
function completeNotFound (context: Route, additions: RouteAdditions): void {
  const kNotFound = symbolOf(context, 'fastify.404ContextKey')
  const notFound: Route | null | undefined = kNotFound && Reflect.get(context, kNotFound)
  if (notFound != null) complete(notFound, additions)
}

function complete (route: Route, { callHandler, lastOnSend }: RouteAdditions): void {
  const { handler } = route
  const called: RouteHandlerMethod = function (request, reply) {
    return callHandler(handler, this, request, reply)
  }
  // Tracing names a route by its handler.
  route.handler = Object.defineProperty(called, 'name', { value: handler.name, configurable: true })
  route.onSend = [route.onSend ?? []].flat().concat(lastOnSend)
}

function replyPrototypeOf (fastify: FastifyInstance): object | undefined {
  const kReply = symbolOf(fastify, 'fastify.Reply')
  return kReply && Reflect.get(fastify, kReply).prototype
}

/** A symbol by its description, on an object or what it inherits from. */
function symbolOf (object: object | undefined, description: string): symbol | undefined {
  for (let at: object | null = object ?? null; at !== null; at = Object.getPrototypeOf(at)) {
    const found = Object.getOwnPropertySymbols(at).find((symbol) => symbol.description === description)
    if (found !== undefined) return found
  }
}
