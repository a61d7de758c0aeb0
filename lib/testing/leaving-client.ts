import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { EventEmitter } from 'node:events'
import { request as requestHttp } from 'node:http'
import { connect } from 'node:http2'
import { request as requestHttps } from 'node:https'
import { setImmediate } from 'node:timers/promises'
import type { StateEvent } from '../turn/telemetry.js'
import type { TestedApp } from './tested-app.js'

/** What a client posts. */
interface Post {
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
 * Posts something to a server, and closes the connection when the turn of these documents is loaded, so that its handler is at
 * work, or when it is answered.
 */
export async function leaveDuring (app: TestedApp, post: Post, keys: Array<string | undefined>): Promise<void> {
  await app.ready()
  if (!app.server.listening) await app.listen({ host: '127.0.0.1', port: 0 })
  const loaded = whenLoaded(keys)
  const client = (app.initialConfig.http2 === true ? http2Client : http1Client)(app.listeningOrigin, post)
  await Promise.race([loaded.promise, client.answered])
  loaded.forget()
  await setImmediate()
  client.leave()
}

function whenLoaded (keys: Array<string | undefined>): { promise: Promise<void>, forget: () => void } {
  let resolve = (): void => {}
  const promise = new Promise<void>((_resolve) => { resolve = _resolve })
  const listener = (event: unknown): void => {
    if ((event as StateEvent).keys.every((key) => keys.includes(key))) resolve()
  }
  subscribe('botas-state:load', listener)
  return { promise, forget: () => { unsubscribe('botas-state:load', listener) } }
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
