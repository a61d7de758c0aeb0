import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect as connectHttp2, constants } from 'node:http2'
import { type Socket, connect } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { FastifyServerOptions } from 'fastify'
import type { Test } from 'tap'
import { certificatePath } from './certificates.js'
import { httpPost } from './raw-client.js'

export interface Answer {
  status: number
  headers: Record<string, string>
  body: string
}

/** One client on one connection that is kept alive. */
export interface Client {
  /** posts JSON and resolves when the whole reply is there, not a moment later */
  say (activity: unknown, path?: string): Promise<Answer>
  /** posts JSON, and does not wait */
  begin (activity: unknown, path?: string): void
  leave (): void
}

export interface Protocol {
  serverOptions: FastifyServerOptions
  connect (t: Test, port: number): Promise<Client>
}

const pem = readFileSync(certificatePath)

export const protocols: Record<'HTTP/1.1' | 'TLS' | 'HTTP/2', Protocol> = {
  'HTTP/1.1': {
    serverOptions: {},
    connect: async (t, port) => http1Client(t, connect(port, '127.0.0.1'), 'connect')
  },
  TLS: {
    serverOptions: { https: { key: pem, cert: pem } } as FastifyServerOptions,
    connect: async (t, port) => http1Client(t, connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false }), 'secureConnect')
  },
  'HTTP/2': { serverOptions: { http2: true } as FastifyServerOptions, connect: http2Client }
}

async function http1Client (t: Test, socket: Socket, ready: string): Promise<Client> {
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  await once(socket, ready)
  let received = Buffer.alloc(0)
  let look = () => {}
  socket.on('data', (chunk) => {
    received = Buffer.concat([received, chunk])
    look()
  })
  socket.on('close', () => look())
  return {
    say: (activity, path = '/') => new Promise((resolve, reject) => {
      look = () => {
        const answer = answerIn(received)
        if (answer !== undefined) {
          received = Buffer.alloc(0)
          resolve(answer)
        } else if (socket.destroyed) reject(new Error('the connection was closed'))
      }
      socket.write(httpPost(path, activity))
    }),
    begin: (activity, path = '/') => { socket.write(httpPost(path, activity)) },
    leave: () => { socket.destroy() }
  }
}

/** The answer that was received, once it is complete. */
function answerIn (received: Buffer): Answer | undefined {
  const end = received.indexOf('\r\n\r\n')
  if (end < 0) return undefined
  const [statusLine = '', ...lines] = received.toString('latin1', 0, end).split('\r\n')
  const headers = Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 2)]))
  const rest = received.subarray(end + 4)
  const body = headers['transfer-encoding'] === 'chunked' ? unchunked(rest) : withLength(rest, Number(headers['content-length'] ?? 0))
  return body === undefined ? undefined : { status: Number(statusLine.split(' ')[1]), headers, body: body.toString() }
}

function withLength (bytes: Buffer, length: number): Buffer | undefined {
  return bytes.length < length ? undefined : bytes.subarray(0, length)
}

function unchunked (bytes: Buffer): Buffer | undefined {
  const chunks: Buffer[] = []
  for (let at = 0; ;) {
    const lineEnd = bytes.indexOf('\r\n', at)
    if (lineEnd < 0) return undefined
    const size = parseInt(bytes.toString('latin1', at, lineEnd), 16)
    if (size === 0) return Buffer.concat(chunks)
    chunks.push(bytes.subarray(lineEnd + 2, lineEnd + 2 + size))
    at = lineEnd + size + 4
  }
}

async function http2Client (t: Test, port: number): Promise<Client> {
  const session = connectHttp2(`http://127.0.0.1:${port}`)
  t.teardown(() => session.destroy())
  session.on('error', () => {})
  await once(session, 'connect')
  const send = (activity: unknown, path: string) => {
    const stream = session.request({ ':path': path, ':method': 'POST', 'content-type': 'application/json' })
    stream.on('error', () => {})
    stream.end(JSON.stringify(activity))
    return stream
  }
  let last: ReturnType<typeof send> | undefined
  return {
    say: async (activity, path = '/') => {
      const stream = send(activity, path)
      const [headers] = await once(stream, 'response')
      const chunks: Buffer[] = []
      for await (const chunk of stream) chunks.push(chunk)
      return { status: headers[':status'], headers, body: Buffer.concat(chunks).toString() }
    },
    begin: (activity, path = '/') => { last = send(activity, path) },
    leave: () => { last?.close(constants.NGHTTP2_CANCEL) }
  }
}
