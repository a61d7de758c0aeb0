import { once } from 'node:events'
import { type AddressInfo, type Socket, connect, createServer } from 'node:net'
import type { Test } from 'tap'

/** What is lost on the way to a server, together with the connection. */
export type Direction = 'requests' | 'answers'

/**
 * A way to a server on which chunks can be lost, one by one. Gives its URL for Redis.
 *
 * @param isLost decides
 * @param latency of the answers, in milliseconds
 */
export async function lossyWay (t: Test, to: number, isLost: (direction: Direction) => boolean, latency = 0) {
  const sockets = new Set<Socket>()
  const proxy = createServer((socket) => {
    const upstream = connect(to, '127.0.0.1')
    const both = [socket, upstream] as const
    for (const one of both) {
      sockets.add(one)
      one.on('error', () => {}).on('close', () => {
        sockets.delete(one)
        for (const other of both) other.destroy()
      })
    }
    // What was sent before the cut still arrives.
    socket.on('data', (chunk) => isLost('requests') ? socket.destroy() : upstream.write(chunk))
    upstream.on('data', (chunk) => {
      if (isLost('answers')) socket.destroy()
      else if (latency === 0) socket.write(chunk)
      else setTimeout(() => socket.write(chunk), latency)
    })
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.teardown(() => {
    proxy.close()
    for (const socket of sockets) socket.destroy()
  })
  return `redis://127.0.0.1:${(proxy.address() as AddressInfo).port}`
}

/** A way on which one chunk is lost when that is asked for. */
export async function losingWay (t: Test, to: number) {
  let next: Direction | undefined
  const url = await lossyWay(t, to, (direction) => {
    if (direction !== next) return false
    next = undefined
    return true
  })
  return { url, lose: (direction: Direction) => { next = direction } }
}
