/** A payload that is still to be produced when the headers are sent, as far as it is of interest here. */
interface NodeStream {
  pipe: unknown
  on(event: 'error', listener: () => void): unknown
}

export function isStream (payload: unknown): boolean {
  return isNodeStream(payload) || webStreamOf(payload) !== undefined
}

/**
 * Reports the failure of a streamed payload. A Node stream is given back as it is; a web stream, or the one in a fetch
 * `Response`, has no event for it and is given back wrapped.
 */
export function watchStream (payload: unknown, failed: () => void): unknown {
  if (isNodeStream(payload)) {
    payload.on('error', failed)
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
  return stream instanceof ReadableStream ? stream : undefined
}

function isResponse (payload: unknown): payload is Response {
  return payload instanceof Response
}

function isNodeStream (payload: unknown): payload is NodeStream {
  return typeof (payload as Partial<NodeStream> | null | undefined)?.pipe === 'function'
}
