import { once } from 'node:events'
import { connect as connectHttp2, constants } from 'node:http2'
import { type Socket, connect } from 'node:net'

/** A bare connection, for clients that leave, pipeline or reset. */
export async function openSocket (port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

/** A POST as it goes over the wire. */
export function httpPost (path: string, body: unknown, connection = 'keep-alive'): string {
  const text = JSON.stringify(body)
  return `POST ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: ${connection}\r\n` +
    `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`
}

/** One request whose client can leave at any moment. */
export interface RawRequest {
  /** the status of the response, once it is there */
  status: () => number | undefined
  /** whether nothing more will come */
  over: () => boolean
  /** closes the connection, or over HTTP/2 the stream, in good order */
  leave: () => void
  /** breaks the connection off */
  reset: () => void
}

/** Sends an activity by POST, or without one a GET. */
export type SendRequest = (port: number, activity: unknown) => Promise<RawRequest>

export const sendHttp1: SendRequest = async (port, activity) => {
  const socket = await openSocket(port)
  let answer = ''
  socket.on('data', (chunk) => { answer += chunk })
  socket.write(activity === undefined ? 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n' : httpPost('/', activity))
  const status = () => answer === '' ? undefined : Number(answer.split(' ')[1])
  return {
    status,
    over: () => socket.destroyed || status() !== undefined,
    leave: () => { socket.destroy() },
    reset: () => { socket.resetAndDestroy() }
  }
}

export const sendHttp2: SendRequest = async (port, activity) => {
  const session = connectHttp2(`http://127.0.0.1:${port}`)
  session.on('error', () => {})
  const stream = session.request({ ':path': '/', ':method': activity === undefined ? 'GET' : 'POST', 'content-type': 'application/json' })
  let status: number | undefined
  stream.on('response', (headers) => { status = headers[':status'] })
  stream.on('error', () => {})
  stream.on('close', () => { session.destroy() })
  stream.resume()
  stream.end(activity === undefined ? undefined : JSON.stringify(activity))
  return {
    status: () => status,
    over: () => session.destroyed,
    leave: () => { stream.close(constants.NGHTTP2_CANCEL) },
    reset: () => { session.destroy() }
  }
}

/** The protocols, each with its client and the options of its server. */
export const senders = { 'HTTP/1.1': { send: sendHttp1, options: {} }, 'HTTP/2': { send: sendHttp2, options: { http2: true } as object } }

/** A promise and what resolves it. */
export function gate (): { opened: Promise<void>, open: () => void } {
  let open = () => {}
  const opened = new Promise<void>((resolve) => { open = resolve })
  return { opened, open }
}
