import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { type Server, createServer } from 'node:net'

/** Below the ports that systems give away by themselves: a client of another test would take one of those before a server has it. */
const FIRST = 10_000
const LAST = 32_000

/** A free loopback port, for a server that is started later. */
export async function freePort (): Promise<number> {
  const [port] = await freePorts(1)
  return port as number
}

/** Ports that are free at the same time. */
export async function freePorts (count: number): Promise<number[]> {
  const servers = new Map<number, Server>()
  while (servers.size < count) {
    const port = randomInt(FIRST, LAST)
    const server = await listenOn(port)
    if (server !== undefined) servers.set(port, server)
  }
  for (const server of servers.values()) {
    server.close()
    await once(server, 'close')
  }
  return [...servers.keys()]
}

/** Gives nothing if somebody else has the port. */
async function listenOn (port: number): Promise<Server | undefined> {
  const server = createServer().listen(port, '127.0.0.1')
  try {
    await once(server, 'listening')
    return server
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
  }
}
