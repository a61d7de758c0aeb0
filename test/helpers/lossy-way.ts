import { once } from 'node:events'
import { type AddressInfo, type Socket, connect, createServer } from 'node:net'
import type { Test } from 'tap'

/** What is lost on the way to a server, together with the connection. */
export type Direction = 'requests' | 'answers'

/**
 * A way to a server on which chunks can be lost, one by one, and which can be closed.
 *
 * @param isLost decides
 * @param latency of the answers, in milliseconds
 */
export async function wayTo (t: Test, to: number, isLost: (direction: Direction) => boolean = () => false, latency = 0) {
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
  const { port } = proxy.address() as AddressInfo
  const close = async (): Promise<void> => {
    if (!proxy.listening) return
    const closed = once(proxy, 'close')
    proxy.close()
    for (const socket of sockets) socket.destroy()
    await closed
  }
  t.teardown(close)
  return {
    port,
    /** Ends all connections; nothing listens any more. */
    close,
    open: async () => { if (!proxy.listening) await once(proxy.listen(port, '127.0.0.1'), 'listening') }
  }
}

/** A way to a Redis on which chunks can be lost. Gives its URL. */
export async function lossyWay (t: Test, to: number, isLost: (direction: Direction) => boolean, latency = 0): Promise<string> {
  return `redis://127.0.0.1:${(await wayTo(t, to, isLost, latency)).port}`
}

/** A way on which one chunk is lost when that is asked for. Gives its URL for a Redis. */
export async function losingWay (t: Test, to: number) {
  let next: Direction | undefined
  const { port } = await wayTo(t, to, (direction) => {
    if (direction !== next) return false
    next = undefined
    return true
  })
  return { port, url: `redis://127.0.0.1:${port}`, lose: (direction: Direction) => { next = direction } }
}
