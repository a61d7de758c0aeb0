import { once } from 'node:events'
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

/** A promise and what resolves it. */
export function gate (): { opened: Promise<void>, open: () => void } {
  let open = () => {}
  const opened = new Promise<void>((resolve) => { open = resolve })
  return { opened, open }
}
