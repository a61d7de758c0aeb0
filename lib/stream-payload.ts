import { type Readable, finished } from 'node:stream'

/** Whether a payload is still to be produced when the headers are sent, by the signs that Fastify goes by. */
export function isStream (payload: unknown): boolean {
  return isNodeStream(payload) || webStreamOf(payload) !== undefined
}

/** Whether a payload is a fetch `Response`, of whatever implementation. */
export function isResponse (payload: unknown): payload is Response {
  return typeof payload === 'object' && Object.prototype.toString.call(payload) === '[object Response]'
}

/**
 * Reports a streamed payload that fails or breaks off. A Node stream is given back as it is; a web stream, or the one in
 * a fetch `Response`, has no event for it and is given back wrapped.
 */
export function watchStream (payload: unknown, failed: () => void): unknown {
  if (isNodeStream(payload)) {
    finished(payload, { writable: false }, (error) => { if (error != null) failed() })
    return payload
  }
  const stream = webStreamOf(payload)
  // Fastify refuses a stream that somebody else reads; it says so better.
  if (stream === undefined || stream.locked) return payload
  const watched = watchWebStream(stream, failed)
  return isResponse(payload) ? new Response(watched, payload) : watched
}

function watchWebStream (stream: ReadableStream, failed: () => void): ReadableStream {
  const reader = stream.getReader()
  return new ReadableStream({
    async pull (controller) {
      try {
        const { done, value } = await reader.read()
        if (done) controller.close()
        else controller.enqueue(value)
      } catch (error) {
        failed()
        controller.error(error)
      }
    },
    cancel: (reason) => reader.cancel(reason)
  }, { highWaterMark: 0 })
}

function webStreamOf (payload: unknown): ReadableStream | undefined {
  const stream = isResponse(payload) ? payload.body : payload
  return hasMethod(stream, 'getReader') ? stream as ReadableStream : undefined
}

function isNodeStream (payload: unknown): payload is Readable {
  return hasMethod(payload, 'pipe')
}

function hasMethod (value: unknown, name: string): boolean {
  return typeof value === 'object' && typeof (value as Record<string, unknown> | null)?.[name] === 'function'
}
