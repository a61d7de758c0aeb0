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
  ready(): PromiseLike<unknown>
  /** Lets a client that leaves connect. */
  listen(options: { host: string, port: number }): Promise<string>
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
  if (app.botasState === undefined) await app.ready()
  const { [kTurns]: turns } = (app.botasState ?? {}) as { [kTurns]?: Turns }
  if (turns === undefined) {
    throw new Error('app.botasState was not found: pass the server, or the encapsulated plugin, on which fastify-botas-state is registered')
  }
  return turns
}

/** The keys of what is stored of somebody; `undefined` where there is no such id. */
export function documentKeys (talker: Talker): { conversation: string | undefined, user: string | undefined } {
  const identity = checkedIdentity(talker)
  return { conversation: keyOf('conversation', identity), user: keyOf('user', identity) }
}
