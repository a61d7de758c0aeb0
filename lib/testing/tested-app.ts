import type { Server } from 'node:net'
import type { InjectOptions, LightMyRequestResponse } from 'fastify'
import type { BotasState } from '../plugin.js'
import { type TurnIdentity, checkedIdentity, keyOf } from '../turn/identity.js'
import { type Turns, kTurns } from '../turn/turns.js'

/** A Fastify server with the plugin, whatever its types are: what a test needs of it. */
export interface TestedApp {
  /** The decorator of the plugin. */
  readonly botasState: BotasState
  /** Node's server. */
  readonly server: Server
  /** Where it listens, for a client that leaves. */
  readonly listeningOrigin: string
  /** Fastify's options, as they were given. */
  readonly initialConfig: {
    /** Which protocol that client speaks. */
    readonly http2?: boolean
  }
  /** Loads the plugins. */
  ready(listener: (error: Error | null) => void): unknown
  /** Lets a client that leaves connect. */
  listen(options: { host: string, port: number }, callback: (error: Error | null) => void): void
  /** Posts what is said. */
  inject(options: InjectOptions): Promise<LightMyRequestResponse>
}

/** Whose turns they are: the identity that the bot finds in what is posted. */
export type Talker = Omit<TurnIdentity, 'activityId'>

/**
 * The turns of a server, once its plugins are loaded; at once where they are.
 *
 * @throws where the plugin is not registered there
 */
export async function turnsOf (app: TestedApp): Promise<Turns> {
  if (app.botasState === undefined) await ready(app)
  const { [kTurns]: turns } = (app.botasState ?? {}) as { [kTurns]?: Turns }
  if (turns === undefined) {
    throw new Error('app.botasState was not found: pass the server, or the encapsulated plugin, on which fastify-botas-state is registered')
  }
  return turns
}

/** An encapsulated plugin has to be asked by callbacks: its promise throws, see https://github.com/fastify/avvio/blob/v9.3.1/boot.js#L371 */
export async function ready (app: TestedApp): Promise<void> {
  await called((callback) => app.ready(callback))
}

/** A server that does not listen yet listens on a free port of 127.0.0.1 from then on. */
export async function listening (app: TestedApp): Promise<void> {
  await ready(app)
  if (!app.server.listening) await called((callback) => app.listen({ host: '127.0.0.1', port: 0 }, callback))
}

function called (call: (callback: (error: Error | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => call((error) => error == null ? resolve() : reject(error)))
}

/** The keys of what is stored of somebody; `undefined` where there is no such id. */
export function documentKeys (talker: Talker): { conversation: string | undefined, user: string | undefined } {
  const identity = checkedIdentity(talker)
  return { conversation: keyOf('conversation', identity), user: keyOf('user', identity) }
}
