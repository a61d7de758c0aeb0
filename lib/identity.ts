import { FST_BOTAS_STATE_INVALID_ID, FST_BOTAS_STATE_NOT_A_TURN } from './errors.js'
import { kindOf } from './kind-of.js'

/** Whose turn a request is. Ids are non-empty strings of at most 1,024 characters without control characters. */
export interface TurnIdentity {
  /** The channel, for instance `msteams` or `webchat`. */
  channelId: string
  /** The bot itself: one storage can serve several. */
  botId: string
  /** Without it the turn has no conversation state. */
  conversationId?: string | undefined
  /** Without it the turn has no user state. */
  userId?: string | undefined
}

/** The scopes that are stored, each under a key of its own. */
export type PersistedScope = 'conversation' | 'user'

const collections = { conversation: 'conversations', user: 'users' } as const
const idNames = { conversation: 'conversationId', user: 'userId' } as const
const activityFields = {
  channelId: 'channelId',
  botId: 'recipient.id',
  conversationId: 'conversation.id',
  userId: 'from.id'
} as const

const MAX_ID_LENGTH = 1024
const CONTROL_CHARACTER = /\p{Cc}/u
/** Control characters, and halves of surrogate pairs: with the flag `u` whole pairs are none. */
const UNFIT = /[\p{Cc}\p{Cs}]/u

/**
 * The identity of the turn that a Bot Framework activity begins, the default of the option `identify`.
 *
 * @param body anything; it counts as an activity when it is an object with a `channelId` and a `recipient`
 * @returns `undefined` where the body is no activity. `conversationId` and `userId` are missing where the activity has none.
 * @throws FST_BOTAS_STATE_INVALID_ID naming the field whose id cannot be part of a key
 */
export function activityIdentity (body: unknown): TurnIdentity | undefined {
  const { channelId, recipient, conversation, from } = membersOf(body)
  if (channelId == null || recipient == null) return undefined
  return {
    channelId: validId(channelId, activityFields.channelId),
    botId: validId(idOf(recipient, activityFields.botId), activityFields.botId),
    conversationId: optionalId(idOf(conversation, activityFields.conversationId), activityFields.conversationId),
    userId: optionalId(idOf(from, activityFields.userId), activityFields.userId)
  }
}

/**
 * The key of a conversation's document: `{channelId}/{botId}/conversations/{conversationId}`.
 *
 * @throws FST_BOTAS_STATE_INVALID_ID naming the id that cannot be part of a key
 * @throws FST_BOTAS_STATE_NOT_A_TURN where there is no `conversationId`
 */
export function conversationKey (identity: TurnIdentity): string {
  return requiredKey('conversation', identity)
}

/**
 * The key of a user's document: `{channelId}/{botId}/users/{userId}`.
 *
 * @throws FST_BOTAS_STATE_INVALID_ID naming the id that cannot be part of a key
 * @throws FST_BOTAS_STATE_NOT_A_TURN where there is no `userId`
 */
export function userKey (identity: TurnIdentity): string {
  return requiredKey('user', identity)
}

/** The key of a scope's document, `undefined` where the turn has no such scope. The ids were checked. */
export function keyOf (scope: PersistedScope, { channelId, botId, conversationId, userId }: TurnIdentity): string | undefined {
  const id = scope === 'conversation' ? conversationId : userId
  return id == null ? undefined : `${channelId}/${botId}/${collections[scope]}/${id}`
}

/**
 * What somebody gave as an identity.
 *
 * @throws FST_BOTAS_STATE_INVALID_ID where it is no object, or naming the id that cannot be part of a key
 */
export function checkedIdentity (identity: unknown): TurnIdentity {
  if (typeof identity !== 'object' || identity === null) {
    throw new FST_BOTAS_STATE_INVALID_ID('identity', `an object is needed, not ${kindOf(identity)}`)
  }
  const { channelId, botId, conversationId, userId } = identity as Partial<TurnIdentity>
  return {
    channelId: validId(channelId, 'channelId'),
    botId: validId(botId, 'botId'),
    conversationId: optionalId(conversationId, 'conversationId'),
    userId: optionalId(userId, 'userId')
  }
}

/** The ids that an identity lacks for a scope. */
export function missingIds (scope: PersistedScope, identity: Partial<TurnIdentity>): string[] {
  return (['channelId', 'botId', idNames[scope]] as const).filter((name) => identity[name] == null)
}

/** The fields that a body lacks for a scope, all of them where it is no activity at all. */
export function missingFields (scope: PersistedScope, body: unknown): string[] {
  const { channelId, recipient, conversation, from } = membersOf(body)
  const found = {
    channelId,
    botId: membersOf(recipient).id,
    conversationId: membersOf(conversation).id,
    userId: membersOf(from).id
  } as Partial<TurnIdentity>
  return missingIds(scope, found).map((name) => activityFields[name as keyof TurnIdentity])
}

function requiredKey (scope: PersistedScope, identity: TurnIdentity): string {
  const key = keyOf(scope, checkedIdentity(identity))
  if (key === undefined) throw new FST_BOTAS_STATE_NOT_A_TURN(scope, missingIds(scope, identity).join(', '))
  return key
}

function membersOf (value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value as Record<string, unknown> : {}
}

function idOf (account: unknown, field: string): unknown {
  if (account == null) return undefined
  if (typeof account !== 'object' || Array.isArray(account)) {
    throw new FST_BOTAS_STATE_INVALID_ID(field, 'it is to be the member of an object')
  }
  return (account as { id?: unknown }).id
}

function optionalId (id: unknown, field: string): string | undefined {
  return id == null ? undefined : validId(id, field)
}

/** The id itself stays out of the message: it may be long, and it is somebody's. */
function validId (id: unknown, field: string): string {
  const reason = flawOf(id)
  if (reason !== undefined) throw new FST_BOTAS_STATE_INVALID_ID(field, reason)
  return id as string
}

function flawOf (id: unknown): string | undefined {
  if (typeof id !== 'string') return id == null ? 'it is missing' : `a string is needed, not ${kindOf(id)}`
  if (id === '') return 'it is empty'
  if (id.length > MAX_ID_LENGTH) return `it has ${id.length} characters, ${MAX_ID_LENGTH} are allowed`
  if (UNFIT.test(id)) return CONTROL_CHARACTER.test(id) ? 'it has a control character' : 'it has half of a surrogate pair'
}
