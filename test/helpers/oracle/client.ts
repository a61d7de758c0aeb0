/*
 * The clients of the programs, in a process of their own: their next message is to arrive while the server is still busy
 * with the end of the last one. Within the server's process it never does.
 */
import { readFileSync } from 'node:fs'
import { Agent, type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http'
import { connect, constants } from 'node:http2'
import { Agent as TlsAgent, request as tlsRequest } from 'node:https'
import type { Readable } from 'node:stream'
import { authorityPath } from '../certificates.js'
import type { Program } from './program.js'

export interface Answer {
  status: number | undefined
  /** those that matter */
  headers: Record<string, unknown>
  body: string
  end: 'complete' | 'broken off' | 'never came'
}

/** What a client is told to do, by a message to its process. */
export type Order =
  { id: number, do: 'talk', protocol: Program['protocol'], port: number, message: unknown, sendsNext: boolean } |
  { id: number, do: 'leave' | 'close' }

export interface Answers {
  id: number
  /** nothing where the client left before */
  answer: Answer | undefined
  /** to the next message, on the same connection */
  next: Answer | undefined
}

/** One client with one connection. */
interface Client {
  post: (path: string, body: unknown) => Promise<Answer>
  /** gives up the request */
  leave: () => void
  close: () => void
}

const authority = readFileSync(authorityPath)
const PATIENCE = 4000

function openClient (protocol: Program['protocol'], port: number): Client {
  switch (protocol) {
    case 'HTTP/1.1': return http1Client(port, false)
    case 'TLS': return http1Client(port, true)
    case 'HTTP/2': return http2Client(`http://127.0.0.1:${port}`)
    case 'HTTP/2 over TLS': return http2Client(`https://127.0.0.1:${port}`)
  }
}

function http1Client (port: number, tls: boolean): Client {
  const options = { keepAlive: true, maxSockets: 1 }
  const agent = tls ? new TlsAgent({ ...options, ca: authority }) : new Agent(options)
  let leave = (): void => {}
  return {
    post: (path, body) => new Promise((resolve) => {
      const sent = (tls ? tlsRequest : request)({
        host: '127.0.0.1', port, path, agent, method: 'POST', headers: { 'content-type': 'application/json' }
      })
      leave = () => {
        sent.socket?.destroy()
        sent.destroy()
      }
      const answer = receive(resolve, leave)
      sent.on('error', answer.brokenOff)
      sent.on('response', (response: IncomingMessage) => {
        answer.begins(response.statusCode, response.headers)
        answer.read(response)
      })
      sent.end(JSON.stringify(body))
    }),
    leave: () => leave(),
    close: () => agent.destroy()
  }
}

function http2Client (url: string): Client {
  const session = connect(url, { ca: authority })
  session.on('error', () => {})
  let leave = (): void => {}
  return {
    post: (path, body) => new Promise((resolve) => {
      const stream = session.request({ ':path': path, ':method': 'POST', 'content-type': 'application/json' })
      leave = () => stream.close(constants.NGHTTP2_CANCEL)
      const answer = receive(resolve, leave)
      stream.on('response', (headers) => answer.begins(headers[':status'], headers))
      answer.read(stream)
      stream.end(JSON.stringify(body))
    }),
    leave: () => leave(),
    close: () => session.destroy()
  }
}

/** Resolves in the very moment in which the last byte is there, so that the next message follows at once. */
function receive (resolve: (answer: Answer) => void, giveUp: () => void) {
  const answer: Answer = { status: undefined, headers: {}, body: '', end: 'broken off' }
  const over = (end: Answer['end']): void => {
    clearTimeout(timer)
    resolve({ ...answer, end })
  }
  const timer = setTimeout(() => {
    over('never came')
    giveUp()
  }, PATIENCE)
  return {
    begins (status: number | undefined, headers: IncomingHttpHeaders) {
      answer.status = status
      answer.headers = Object.fromEntries(Object.entries(headers).filter(([name]) => matters(name)))
    },
    read (stream: Readable) {
      stream.on('data', (chunk) => { answer.body += chunk })
      stream.on('end', () => over(answer.status === undefined ? 'broken off' : 'complete'))
      stream.on('error', () => over('broken off'))
      stream.on('close', () => over('broken off'))
    },
    brokenOff: () => over('broken off')
  }
}

function matters (name: string): boolean {
  return ['content-type', 'content-length', 'transfer-encoding', 'set-cookie'].includes(name) || name.startsWith('x-')
}

const clients = new Map<number, Client>()

// Nobody is left to be a client for.
process.once('disconnect', () => process.exit())
process.on('message', (order: Order) => {
  if (order.do === 'talk') talk(order)
  else clients.get(order.id)?.[order.do]()
})

/** Sends a message, and the next one in the very moment in which the answer is there. */
async function talk ({ id, protocol, port, message, sendsNext }: Order & { do: 'talk' }): Promise<void> {
  const client = openClient(protocol, port)
  let hasLeft = false
  clients.set(id, {
    ...client,
    leave () {
      hasLeft = true
      client.leave()
    }
  })
  const answer = await client.post('/', message)
  const answered = hasLeft ? undefined : answer
  const next = answered?.end === 'complete' && sendsNext ? await client.post('/next', message) : undefined
  process.send?.({ id, answer: answered, next } satisfies Answers)
}
