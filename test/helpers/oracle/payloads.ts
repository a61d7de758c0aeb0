import { Readable } from 'node:stream'
import type { Run } from './run.js'

type Ending = 'ends' | 'fails at once' | 'fails later'

/** What a handler can send. The first is what a failing program shrinks to. */
export const payloads = {
  'an object': () => ({ sent: 'object' }),
  'a text': () => 'text',
  nothing: () => undefined,
  null: () => null,
  'a buffer': () => Buffer.from('buffer'),
  'a large object': () => ({ sent: 'x'.repeat(150_000) }),
  'an Error': () => new Error('sent'),
  'an unserializable object': () => ({ get sent () { throw new Error('unserializable') } }),
  'an object as text/plain': () => ({ sent: 'as text' }),
  'a stream': (run: Run) => nodeStream(run, 'ends'),
  'a stream that fails at once': (run: Run) => nodeStream(run, 'fails at once'),
  'a stream that fails later': (run: Run) => nodeStream(run, 'fails later'),
  'a stream that breaks off': breakingStream,
  'a web stream': (run: Run) => webStream(run, 'ends'),
  'a web stream that fails at once': (run: Run) => webStream(run, 'fails at once'),
  'a web stream that fails later': (run: Run) => webStream(run, 'fails later'),
  'Response.json()': () => Response.json({ sent: 'Response' }),
  'a Response with a text': () => new Response('text', { status: 201, headers: { 'x-response': 'yes' } }),
  'a Response with 503': () => new Response('unavailable', { status: 503 }),
  'a Response without body': () => new Response(null, { status: 204 }),
  'a consumed Response': (run: Run) => run.consumed,
  'a streaming Response': (run: Run) => streamingResponse(run, 'ends'),
  'a Response that fails later': (run: Run) => streamingResponse(run, 'fails later')
}

export type Payload = keyof typeof payloads

/** Whether Fastify takes its time to send a payload; a second reply gets mixed up with it then. */
export function isProducedLater (payload: unknown): boolean {
  if (payload instanceof Response) return payload.body !== null && !payload.bodyUsed
  return payload instanceof Readable || payload instanceof ReadableStream
}

function streamingResponse (run: Run, ending: Ending): Response {
  const response = new Response(webStream(run, ending))
  run.streams.add(response)
  return response
}

function webStream (run: Run, ending: Ending): ReadableStream {
  const stream = ReadableStream.from(chunks(run, ending))
  run.streams.add(stream)
  return stream
}

function nodeStream (run: Run, ending: Ending): Readable {
  const stream = Readable.from(chunks(run, ending))
  run.streams.add(stream)
  return stream
}

async function * chunks (run: Run, ending: Ending) {
  if (ending === 'fails at once') throw run.streamFailed()
  yield Buffer.from('first ')
  await run.clock.wait(2)
  if (ending === 'fails later') throw run.streamFailed()
  yield Buffer.from('last')
}

/** Its source goes away without an error. */
function breakingStream (run: Run): Readable {
  let hasBegun = false
  const stream = new Readable({
    read () {
      if (hasBegun) return
      hasBegun = true
      this.push('first ')
      run.clock.wait(2).then(() => {
        if (!this.destroyed) run.streamFailed()
        this.destroy()
      })
    }
  })
  run.streams.add(stream)
  return stream
}
