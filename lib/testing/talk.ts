import { randomUUID } from 'node:crypto'
import type { LightMyRequestResponse } from 'fastify'
import type { StateDocument } from '../document/document.js'
import { begin } from './given.js'
import { type Post, leaveDuring } from './leaving-client.js'
import { type Talker, type TestedApp, documentKeys, turnsOf } from './tested-app.js'

/** A message as channels of the Bot Framework post it. */
export interface Said {
  /** The type of the activity. */
  type: 'message'
  /** Another one for each message; a redelivery has that of the first delivery. */
  id: string
  /** When it was said, ISO 8601. */
  timestamp: string
  /** What was said. */
  text: string
  /** The talker's channel. */
  channelId: string
  /** The bot. */
  recipient: Account
  /** Left out where the talker has no `conversationId`. */
  conversation?: Account
  /** The user. Left out where the talker has no `userId`. */
  from?: Account
  /** The bot is to answer in the HTTP response. */
  deliveryMode: 'expectReplies'
}

/** A bot, a conversation or a user, as activities name them. */
export interface Account {
  /** Its id in the channel. */
  id: string
}

/** How messages are posted. */
export interface TalkOptions {
  /** The bot's route. Default `/api/messages`. */
  url?: string
  /** Headers of each request, beside `content-type: application/json`. */
  headers?: Record<string, string>
  /** What is posted of a message: another channel's body, as an object or as text. By default the message itself. */
  payload?: (said: Said) => object | string
}

/** Somebody who talks to a bot. */
export interface Talk {
  /** Posts a message, and resolves to the response; rejects where that breaks off. */
  says(text: string): Promise<LightMyRequestResponse>
  /** Posts several messages, in this order, without waiting for the responses between. Resolves to the responses in that order. */
  saysAtOnce(texts: string[]): Promise<LightMyRequestResponse[]>
  /**
   * Posts the latest message once more, with the same body, as a channel does that got no answer.
   *
   * @throws where nothing was said before
   */
  redelivers(): Promise<LightMyRequestResponse>
  /**
   * Posts a message through a socket, and closes that when a turn is loaded, or the message answered. Resolves when no turn is open.
   * A server that does not listen yet listens on a free port of 127.0.0.1 from then on.
   *
   * @throws where neither comes within `flushTimeout`
   */
  leavesDuring(text: string): Promise<void>
  /**
   * What is stored, `{}` where nothing is, once no turn of the server is open.
   *
   * @throws where turns are still open after `flushTimeout`
   */
  state(): Promise<{ conversation: StateDocument, user: StateDocument }>
}

/**
 * Talks to a bot as a user does through a channel, for tests with any framework.
 *
 * @example
 * const ada = talk(app, { channelId: 'test', botId: 'bot', conversationId: 'c', userId: 'ada' })
 * await ada.says('Hi')
 * assert.deepEqual((await ada.state()).conversation, { turnCount: 1 })
 *
 * @param app a Fastify server with the plugin; it need not be ready, nor listen
 * @param talker whose turns they are, by the bot's own `identify`
 * @param options for bots whose route or channel is another one
 * @throws FST_BOTAS_STATE_INVALID_ID
 */
export function talk (app: TestedApp, talker: Talker, options: TalkOptions = {}): Talk {
  const { url = '/api/messages', headers = {}, payload = (said: Said) => said } = options
  const keys = documentKeys(talker)
  const begun = begin(app, talker)
  // What is said next tells of it.
  begun.catch(() => {})
  let latest: string | undefined

  const bodyOf = (text: string): string => {
    const body = payload(messageOf(talker, text))
    latest = typeof body === 'string' ? body : JSON.stringify(body)
    return latest
  }
  const postOf = (body: string): Post => ({ url, headers: { 'content-type': 'application/json', ...inLowerCase(headers) }, payload: body })
  const send = async (body: string): Promise<LightMyRequestResponse> => {
    await begun
    return app.inject({ method: 'POST', ...postOf(body) })
  }

  return {
    says: async (text) => send(bodyOf(text)),
    saysAtOnce: async (texts) => Promise.all(texts.map((text) => send(bodyOf(text)))),
    async redelivers () {
      if (latest === undefined) throw new Error('nothing was said yet that could be delivered again')
      return send(latest)
    },
    async leavesDuring (text) {
      const body = bodyOf(text)
      await begun
      await leaveDuring(app, postOf(body))
    },
    async state () {
      await begun
      await (await turnsOf(app)).over()
      const documents = await app.botasState.storage.read(Object.values(keys).filter((key) => key !== undefined))
      const documentOf = (key = ''): StateDocument => (documents[key] ?? {}) as StateDocument
      return { conversation: documentOf(keys.conversation), user: documentOf(keys.user) }
    }
  }
}

function inLowerCase (headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
}

function messageOf ({ channelId, botId, conversationId, userId }: Talker, text: string): Said {
  return {
    type: 'message',
    id: randomUUID(),
    timestamp: new Date().toISOString(),
    text,
    channelId,
    recipient: { id: botId },
    ...conversationId != null && { conversation: { id: conversationId } },
    ...userId != null && { from: { id: userId } },
    deliveryMode: 'expectReplies'
  }
}
