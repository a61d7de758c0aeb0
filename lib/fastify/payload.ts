import { validateHeaderName, validateHeaderValue } from 'node:http'
import { type Readable, finished } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { FastifyReply } from 'fastify'

/** Whether a payload is still to be produced when the headers are sent, by the same check as Fastify. */
export function isStream (payload: unknown): boolean {
  return nodeStreamOf(payload) !== undefined || webStreamOf(payload) !== undefined
}

/** Whether a payload is a fetch `Response`, of whatever implementation. */
export function isResponse (payload: unknown): payload is Response {
  return typeof payload === 'object' && Object.prototype.toString.call(payload) === '[object Response]'
}

/** Whether a payload is a `Response` with a web stream as its body, which may be that of a text. */
export function isWebResponse (payload: unknown): payload is Response {
  return isResponse(payload) && webStreamOf(payload) !== undefined
}

/**
 * Reports a streamed payload that fails or breaks off. Fastify reads a web stream through its reader, which is watched in
 * place: a stream around it would pass each chunk on a little later, when another reply may have overtaken it.
 */
export function watchStream (payload: unknown, failed: (error: unknown) => void): void {
  const nodeStream = nodeStreamOf(payload)
  if (nodeStream !== undefined) finished(nodeStream, { writable: false }, (error) => { if (error != null) failed(error) })
  const webStream = webStreamOf(payload)
  if (webStream !== undefined) watchReader(webStream, failed)
}

/** How many chunks of a `Response` are read ahead: a source that never pauses may never end. */
const MAX_CHUNKS = 1000

/**
 * Reads the body of a `Response` as far as it is at hand. A text or JSON is there as a whole, what a handler produces bit
 * by bit is not.
 *
 * @param begun is called as soon as Fastify would have sent the headers, had it been given the `Response`
 * @returns a `Response` with the same body, what was read of that, and whether it is complete
 */
export async function readAtHand (
  response: Response, begun: () => void
): Promise<{ response: Response, chunks: Uint8Array[], isWhole: boolean }> {
  const reader = (response.body as ReadableStream<Uint8Array>).getReader()
  const chunks: Uint8Array[] = []
  const late = nextTurn(undefined)
  let reading = reader.read()
  reading.then(begun, begun)
  let next = await Promise.race([reading, late])
  while (next?.done === false && chunks.length < MAX_CHUNKS) {
    chunks.push(next.value)
    reading = reader.read()
    next = await Promise.race([reading, late])
  }
  const body = new ReadableStream({
    async pull (controller) {
      if (chunks.length > 0) return controller.enqueue(chunks.shift())
      const { done, value } = await reading
      if (done) return controller.close()
      controller.enqueue(value)
      reading = reader.read()
    },
    cancel: (reason) => reader.cancel(reason)
  }, { highWaterMark: 0 })
  return { response: new Response(body, response), chunks, isWhole: next?.done === true }
}

/** Whether Fastify can take a payload that was not read before. Where it cannot, it throws, and says why. */
export function isReadable (payload: unknown): boolean {
  const stream = webStreamOf(payload)
  return stream === undefined || !(stream.locked || (isResponse(payload) && payload.bodyUsed))
}

/** Whether a whole reply can be written: once it is saved, it is too late for Fastify and Node to refuse it. */
export function isWritable (reply: FastifyReply, payload: unknown): boolean {
  if (reply.raw.headersSent || !isReadable(payload)) return false
  const isBody = payload == null || typeof payload === 'string' || Buffer.isBuffer(payload) || isStream(payload) || isResponse(payload)
  return isBody && areHeaders(Object.entries(reply.getHeaders())) && (!isResponse(payload) || isHead(payload))
}

/** Whether Fastify can take status and headers from a `Response`, which may be of any make. */
function isHead ({ status, headers }: Response): boolean {
  return status >= 100 && status <= 599 && areHeaders(headers)
}

function areHeaders (headers: Iterable<[name: string, value: unknown]>): boolean {
  try {
    for (const [name, value] of headers) {
      // Node wants a chunked body for it, and HTTP/2 no header that is null.
      if (name === 'trailer' || value === null) return false
      validateHeaderName(name)
      for (const one of [value].flat()) validateHeaderValue(name, one as string)
    }
    return true
  } catch {
    return false
  }
}

/** Whether a payload is a Node stream from which nothing is to come. */
export function isDestroyed (payload: unknown): boolean {
  return nodeStreamOf(payload)?.destroyed === true
}

/** Stops the source of a payload that nobody will read, because another reply has taken its place. */
export function discard (payload: unknown): void {
  nodeStreamOf(payload)?.destroy()
  const stream = webStreamOf(payload)
  // A locked stream is stopped by its reader; foreign ones may lack cancel().
  if (stream?.locked === false && hasMethod(stream, 'cancel')) stream.cancel().catch(() => {})
}

/** Adds an error listener to a Node stream that nobody reads yet, so that a failure is not thrown. */
export function awaitFailure (payload: unknown): void {
  const stream = nodeStreamOf(payload)
  if (stream !== undefined) finished(stream, () => {})
}

function watchReader (stream: ReadableStream, failed: (error: unknown) => void): void {
  const getReader = stream.getReader.bind(stream)
  Object.assign(stream, {
    getReader () {
      const reader = getReader()
      const read = reader.read.bind(reader)
      return Object.assign(reader, {
        read () {
          const reading = read()
          reading.then(undefined, failed)
          return reading
        }
      })
    }
  })
}

function webStreamOf (payload: unknown): ReadableStream | undefined {
  const body = bodyOf(payload)
  return hasMethod(body, 'getReader') ? body as ReadableStream : undefined
}

/** Also the body of a Response of another make, such as node-fetch's. */
function nodeStreamOf (payload: unknown): Readable | undefined {
  const body = bodyOf(payload)
  return hasMethod(body, 'pipe') ? body as Readable : undefined
}

function bodyOf (payload: unknown): unknown {
  return isResponse(payload) ? payload.body : payload
}

function hasMethod (value: unknown, name: string): boolean {
  return typeof value === 'object' && typeof (value as Record<string, unknown> | null)?.[name] === 'function'
}
