import type { ChildProcess } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { freePort } from './free-port.js'
import { ended, serverDirectory, startWithTest } from './server-process.js'

export interface RedisServer {
  port: number
  url: string
  process: ChildProcess
}

/** Starts a real redis-server, or a valkey-server, on a free loopback port, which is stopped with the test. */
export async function startRedis (
  t: Test, args: string[] = [], program: 'redis-server' | 'valkey-server' = 'redis-server'
): Promise<RedisServer> {
  const port = await freePort()
  const child = await startWithTest(t, program, [
    '--port', String(port), '--bind', '127.0.0.1', '--save', '', ...args
  ], serverDirectory(t), 'Ready to accept connections')
  return { port, url: `redis://127.0.0.1:${port}`, process: child }
}

/** A Redis that can be stopped and started again, with all that it confirmed. */
export async function restartableRedis (t: Test) {
  const directory = serverDirectory(t)
  const args = ['--port', String(await freePort()), '--dir', directory, '--appendonly', 'yes', '--appendfsync', 'always']
  let server: RedisServer | undefined
  return {
    url: `redis://127.0.0.1:${args[1]}`,
    start: async () => { server = await startRedis(t, args) },
    signal: (signal: NodeJS.Signals) => server?.process.kill(signal),
    stop: async (signal: NodeJS.Signals = 'SIGTERM') => {
      if (server !== undefined) await ended(server.process, signal)
    }
  }
}

/** Starts a Sentinel that watches a master named `bot` and finds within a second that it is gone. Gives its port. */
export async function startSentinel (t: Test, master: RedisServer): Promise<number> {
  const port = await freePort()
  const directory = serverDirectory(t)
  // Sentinel writes down there what it found out.
  const file = join(directory, 'sentinel.conf')
  writeFileSync(file, `port ${port}\nbind 127.0.0.1\nsentinel monitor bot 127.0.0.1 ${master.port} 1\n` +
    'sentinel down-after-milliseconds bot 300\nsentinel failover-timeout bot 2000\n')
  await startWithTest(t, 'redis-server', [file, '--sentinel'], directory, '+monitor master bot')
  return port
}
