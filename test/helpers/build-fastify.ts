import { Writable } from 'node:stream'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import type { Test } from 'tap'
import botasState, { type BotasStateOptions } from '../../lib/index.js'

interface LogLine extends Record<string, unknown> {
  level: number
  msg: string
}

export interface TestServer {
  app: FastifyInstance
  /** what was logged, at level warn and above */
  log: LogLine[]
  /** where it listens, for fetch */
  url: string
  port: number
}

/**
 * A server with the plugin that listens on a free loopback port and is closed with the test.
 *
 * @param routes are declared after the plugin was registered
 */
export async function buildFastify (
  t: Test,
  options: BotasStateOptions,
  routes: (app: FastifyInstance) => void,
  serverOptions: FastifyServerOptions = {},
  port = 0
): Promise<TestServer> {
  const log: LogLine[] = []
  const stream = new Writable({
    write (chunk, _encoding, done) {
      log.push(JSON.parse(chunk))
      done()
    }
  })
  const app = Fastify({ logger: { level: 'warn', stream }, forceCloseConnections: true, ...serverOptions })
  t.teardown(() => app.close())
  await app.register(botasState, options)
  routes(app)
  return { app, log, ...await listen(app, port) }
}

/** Listens on a loopback port, by default a free one. */
export async function listen (app: FastifyInstance, wanted = 0): Promise<{ url: string, port: number }> {
  await app.listen({ host: '127.0.0.1', port: wanted })
  const { port } = app.server.address() as { port: number }
  return { url: `http://127.0.0.1:${port}`, port }
}

/** Posts an activity, or any other body, as JSON. */
export async function post (url: string, body: unknown) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body)
  })
  const text = await response.text()
  return { status: response.status, text, body: text === '' ? undefined : JSON.parse(text) }
}

/** Resolves when a condition holds, which is looked at every few milliseconds. */
export async function settled (condition: () => boolean | Promise<boolean>, patience = 5000) {
  const deadline = Date.now() + patience
  while (!await condition()) {
    if (Date.now() > deadline) throw new Error('what the test waits for did not happen')
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
