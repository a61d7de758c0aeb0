import { FST_BOTAS_STATE_INVALID_ID, FST_BOTAS_STATE_NOT_A_TURN } from '../errors.js'
import { isObject, describeType } from '../document/describe-type.js'

/** Whose turn a request is. Ids are strings of at most 1,024 characters without control characters; an empty one is missing. */
export interface TurnIdentity {
  /** The channel, for instance `msteams` or `webchat`. */
  channelId: string
  /** The bot itself: one storage can serve several. */
  botId: string
  /** Without it the turn has no conversation state. */
  conversationId?: string | null | undefined
  /** Without it the turn has no user state. */
  userId?: string | null | undefined
}

type IdName = keyof TurnIdentity
/** Ids as they were found, of any kind. */
type Ids = { [Name in IdName]?: unknown }

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
 * The identity of the turn that a Bot Framework activity begins, the default of the option `identify`. An id that is
 * missing, `null` or empty is missing.
 *
 * @example
 * identify: ({ body }) => activityIdentity(body, { botId: 'my-skill' })
 *
 * @param body anything; it counts as an activity when it is an object with a `channelId` and an object as `recipient`
 * @param options `botId` takes the place of `recipient.id`: for a skill, which must not share the documents of the bot that calls it
 * @returns `undefined` if the body is no activity, or names no bot. `conversationId` and `userId` are `undefined` if the activity has none.
 * @throws FST_BOTAS_STATE_INVALID_ID naming the field whose id cannot be part of a key
 */
export function activityIdentity (body: unknown, { botId }: { botId?: string | undefined } = {}): TurnIdentity | undefined {
  const { channelId, recipient, conversation, from } = membersOf(body)
  if (!isObject(recipient)) return undefined
  const [bot, botField] = isMissing(botId) ? [recipient.id, activityFields.botId] : [botId, 'botId']
  if (isMissing(channelId) || isMissing(bot)) return undefined
  return {
    channelId: validId(channelId, activityFields.channelId),
    botId: validId(bot, botField),
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
  return isMissing(id) ? undefined : `${channelId}/${botId}/${collections[scope]}/${id}`
}

/**
 * What somebody gave as an identity.
 *
 * @throws FST_BOTAS_STATE_INVALID_ID if it is no object, or naming the id that is missing or cannot be part of a key
 */
export function checkedIdentity (identity: unknown): TurnIdentity {
  if (!isObject(identity)) throw new FST_BOTAS_STATE_INVALID_ID('identity', `expected an object, got ${describeType(identity)}`)
  const { channelId, botId, conversationId, userId } = identity
  return {
    channelId: validId(channelId, 'channelId'),
    botId: validId(botId, 'botId'),
    conversationId: optionalId(conversationId, 'conversationId'),
    userId: optionalId(userId, 'userId')
  }
}

/**
 * What the option `identify` answered; `undefined` if that is nobody's turn.
 *
 * @throws FST_BOTAS_STATE_INVALID_ID if it is no object, or naming the id that cannot be part of a key
 */
export function identifiedBy (answer: unknown): TurnIdentity | undefined {
  if (answer == null || (isObject(answer) && (isMissing(answer.channelId) || isMissing(answer.botId)))) return undefined
  return checkedIdentity(answer)
}

/** The ids that an identity lacks for a scope. */
export function missingIds (scope: PersistedScope, identity: Ids): IdName[] {
  return (['channelId', 'botId', idNames[scope]] as const).filter((name) => isMissing(identity[name]))
}

/** The fields that a body lacks for a scope, all of them where it is no activity at all. */
export function missingFields (scope: PersistedScope, body: unknown): string[] {
  const { channelId, recipient, conversation, from } = membersOf(body)
  const found = {
    channelId,
    botId: membersOf(recipient).id,
    conversationId: membersOf(conversation).id,
    userId: membersOf(from).id
  }
  return missingIds(scope, found).map((name) => activityFields[name])
}

function requiredKey (scope: PersistedScope, identity: TurnIdentity): string {
  const key = keyOf(scope, checkedIdentity(identity))
  if (key === undefined) throw new FST_BOTAS_STATE_NOT_A_TURN(scope, `the identity lacks ${missingIds(scope, identity).join(', ')}`)
  return key
}

function membersOf (value: unknown): Record<string, unknown> {
  return isObject(value) ? value : {}
}

function idOf (account: unknown, field: string): unknown {
  if (account == null) return undefined
  if (!isObject(account)) throw new FST_BOTAS_STATE_INVALID_ID(field, `expected the member of an object, got ${describeType(account)}`)
  return account.id
}

function isMissing (id: unknown): id is null | undefined | '' {
  return id == null || id === ''
}

function optionalId (id: unknown, field: string): string | undefined {
  return isMissing(id) ? undefined : validId(id, field)
}

/** The id itself stays out of the message: it may be long, and it is somebody's. */
function validId (id: unknown, field: string): string {
  if (typeof id !== 'string') throw new FST_BOTAS_STATE_INVALID_ID(field, id == null ? 'it is missing' : `expected a string, got ${describeType(id)}`)
  const flaw = flawOf(id)
  if (flaw !== undefined) throw new FST_BOTAS_STATE_INVALID_ID(field, flaw)
  return id
}

function flawOf (id: string): string | undefined {
  if (id === '') return 'it is empty'
  if (id.length > MAX_ID_LENGTH) return `it has ${id.length} characters, ${MAX_ID_LENGTH} are allowed`
  if (UNFIT.test(id)) return CONTROL_CHARACTER.test(id) ? 'it has a control character' : 'it has half of a surrogate pair'
}
