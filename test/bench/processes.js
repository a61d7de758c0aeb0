// The processes of the benchmark: servers under load, and a Redis.
import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import autocannon from 'autocannon'

/** How many conversations come in over one connection, in turn. */
const CONVERSATIONS = 8

const SERVER = fileURLToPath(new URL('server.js', import.meta.url))

/** Starts a variant in a process of its own. */
export async function startServer (variant, env) {
  const child = fork(SERVER, [variant], { env: { ...process.env, ...env }, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const [{ port }] = await once(child, 'message')
  const usage = async () => {
    child.send('usage')
    return (await once(child, 'message'))[0]
  }
  return {
    /**
     * One round, after half of one to warm up: V8 gives memory back where nothing happens. Each connection has some bodies
     * of its own, as a channel has its conversations.
     *
     * @returns turns a second, microseconds of CPU a turn, and the milliseconds that 99 of 100 turns stayed below
     */
    async round ({ seconds, connections = 32, body }) {
      const load = (duration) => {
        let client = 0
        return autocannon({
          url: `http://127.0.0.1:${port}/`,
          connections,
          duration,
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          setupClient: (connection) => {
            const first = client++ * CONVERSATIONS
            connection.setRequests(Array.from({ length: CONVERSATIONS }, (_, index) => ({ body: JSON.stringify(body(first + index)) })))
          }
        })
      }
      const sleepless = stayAwake()
      await load(seconds / 2)
      const before = await usage()
      const result = await load(seconds)
      const after = await usage()
      sleepless.stop()
      if (result.non2xx > 0 || result.errors > 0) throw new Error(`${variant}: ${result.non2xx} refused, ${result.errors} failed`)
      return {
        rate: result.requests.total / result.duration,
        cpu: (after.cpu - before.cpu) / result.requests.total,
        p99: result.latency.p99
      }
    },
    async stop () {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
  }
}

/** Starts a Redis that keeps nothing on disk. */
export async function startRedis (directory) {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address()
  probe.close()
  const child = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--dir', directory, '--save', ''])
  let output = ''
  for await (const chunk of child.stdout.iterator({ destroyOnReturn: false })) {
    output += chunk
    if (output.includes('Ready to accept connections')) break
  }
  child.stdout.resume()
  return {
    url: `redis://127.0.0.1:${port}`,
    version: `Redis ${/version=([\d.]+)/i.exec(output)?.[1]}`,
    async stop () {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
  }
}

/**
 * Keeps the load generator from going to sleep between two answers. Otherwise the slower of two servers, for whose answers
 * it has to wait, pays for waking it up with each of them, and looks slower than it is.
 */
function stayAwake () {
  let awake = true
  const turn = () => { if (awake) setImmediate(turn) }
  turn()
  return { stop: () => { awake = false } }
}
