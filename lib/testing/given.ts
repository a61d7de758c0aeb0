import { type Talker, type TestedApp, documentKeys, turnsOf } from './tested-app.js'

/** What is stored before a conversation begins. What is left out stays as it is. */
export interface GivenState {
  /** The whole document of the talker's conversation. */
  conversation?: object
  /** The whole document of the talker as a user. */
  user?: object
}

/** Who talks to a server; and what was given before anybody did. */
interface Conversation {
  talker?: Talker
  early?: GivenState
}

const conversations = new WeakMap<TestedApp, Conversation>()

/**
 * Stores what a bot knows when a test begins, in place of what was stored, once no turn of the server is open.
 *
 * @example
 * const ada = talk(app, { channelId: 'test', botId: 'bot', conversationId: 'c', userId: 'ada' })
 * await given(app, { conversation: { turnCount: 4 }, user: { name: 'Ada' } })
 *
 * @param app with the plugin
 * @param state its members as they are stored: JSON values
 * @param talker whose state it is. By default that of the latest `talk` with this `app`, or of the first one that is to come.
 * @throws where turns are still open after `flushTimeout`
 */
export async function given (app: TestedApp, state: GivenState, talker?: Talker): Promise<void> {
  const conversation = conversationOf(app)
  const whose = talker ?? conversation.talker
  if (whose === undefined) conversation.early = { ...conversation.early, ...state }
  else await store(app, state, whose)
}

/** Somebody begins to talk. Resolves when what was given is stored. */
export async function begin (app: TestedApp, talker: Talker): Promise<void> {
  const conversation = conversationOf(app)
  const { early } = conversation
  conversation.talker = talker
  delete conversation.early
  if (early !== undefined) await store(app, early, talker)
}

function conversationOf (app: TestedApp): Conversation {
  let conversation = conversations.get(app)
  if (conversation === undefined) conversations.set(app, conversation = {})
  return conversation
}

async function store (app: TestedApp, state: GivenState, talker: Talker): Promise<void> {
  const keys = documentKeys(talker)
  const documents: Record<string, object> = {}
  for (const scope of ['conversation', 'user'] as const) {
    const document = state[scope]
    if (document === undefined) continue
    const key = keys[scope]
    if (key === undefined) throw new Error(`state was given for ${scope}, but the talker has no ${scope}Id`)
    documents[key] = document
  }
  await (await turnsOf(app)).over()
  await app.botasState.storage.write(documents)
}
