import type { EventEmitter } from 'node:events'
import { request as requestHttp } from 'node:http'
import { connect } from 'node:http2'
import { request as requestHttps } from 'node:https'
import { setImmediate } from 'node:timers/promises'
import { type TestedApp, listening, turnsOf } from './tested-app.js'
import { testedStorageOf } from './tested-storage.js'

/** What a client posts. */
export interface Post {
  url: string
  headers: Record<string, string>
  payload: string
}

/** A client with a connection of its own. */
interface Client {
  /** Resolves when the response begins, or the connection breaks. */
  answered: Promise<void>
  leave(): void
}

/**
 * Posts something to a server, and closes the connection when a turn of the server's is loaded, so that its handler is at work, or
 * when it is answered. Resolves when no turn is open.
 *
 * @throws where neither comes within `flushTimeout`
 */
export async function leaveDuring (app: TestedApp, post: Post): Promise<void> {
  const turns = await turnsOf(app)
  await listening(app)
  const client = (app.initialConfig.http2 === true ? http2Client : http1Client)(app.listeningOrigin, post)
  const { onLoaded } = testedStorageOf(turns)
  let onLoad = (): void => {}
  const loaded = new Promise<void>((resolve) => { onLoad = resolve })
  onLoaded.add(onLoad)
  try {
    await turns.inTime(Promise.race([loaded, client.answered]), 'no turn was loaded, and no answer came')
    await setImmediate()
  } finally {
    onLoaded.delete(onLoad)
    client.leave()
  }
  await turns.over()
}

function http1Client (origin: string, { url, headers, payload }: Post): Client {
  const request = (origin.startsWith('https:') ? requestHttps : requestHttp)(new URL(url, origin), { method: 'POST', headers, agent: false, rejectUnauthorized: false })
  request.end(payload)
  return { answered: answered(request), leave: () => { request.destroy() } }
}

function http2Client (origin: string, { url, headers, payload }: Post): Client {
  const session = connect(origin, { rejectUnauthorized: false })
  session.on('error', () => {})
  const stream = session.request({ ':method': 'POST', ':path': url, ...headers })
  stream.end(payload)
  return { answered: answered(stream), leave: () => { session.destroy() } }
}

function answered (request: EventEmitter): Promise<void> {
  return new Promise((resolve) => { request.once('response', resolve).once('close', resolve).on('error', () => {}) })
}
