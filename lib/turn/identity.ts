import type { PersistedScope } from '../state/state-scope.js'
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
  /** What is handled once, if the option `once` is set: unique within the conversation. Without it the turn runs each time. */
  activityId?: string | null | undefined
}

type IdName = Exclude<keyof TurnIdentity, 'activityId'>
/** Ids as they were found, of any kind. */
type Ids = { [Name in IdName]?: unknown }

const collections = { conversation: 'conversations', user: 'users' } as const
const idNames = { conversation: 'conversationId', user: 'userId' } as const
const MAX_ID_LENGTH = 1024
const CONTROL_CHARACTER = /\p{Cc}/u
/** Control characters, and halves of surrogate pairs: with the flag `u` complete pairs do not match. */
const UNFIT = /[\p{Cc}\p{Cs}]/u

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

/** The scope of a document by its key; nothing for what is no key. An id may hold a slash: the first collection that can be one counts. */
export function scopeOf (key: unknown): PersistedScope | undefined {
  if (typeof key !== 'string') return undefined
  const parts = key.split('/').slice(2, -1)
  const collection = parts.find((part) => part === collections.conversation || part === collections.user)
  return collection && (collection === collections.conversation ? 'conversation' : 'user')
}

/**
 * What somebody gave as an identity.
 *
 * @throws FST_BOTAS_STATE_INVALID_ID if it is no object, or naming the id that is missing or cannot be part of a key
 */
export function checkedIdentity (identity: unknown): TurnIdentity {
  if (!isObject(identity)) throw new FST_BOTAS_STATE_INVALID_ID('identity', `expected an object, got ${describeType(identity)}`)
  const { channelId, botId, conversationId, userId, activityId } = identity
  return {
    channelId: validId(channelId, 'channelId'),
    botId: validId(botId, 'botId'),
    conversationId: optionalId(conversationId, 'conversationId'),
    userId: optionalId(userId, 'userId'),
    activityId: optionalId(activityId, 'activityId')
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

function requiredKey (scope: PersistedScope, identity: TurnIdentity): string {
  const key = keyOf(scope, checkedIdentity(identity))
  if (key === undefined) throw new FST_BOTAS_STATE_NOT_A_TURN(scope, `the identity lacks ${missingIds(scope, identity).join(', ')}`)
  return key
}

/** Whether an id is not there: an empty one is not. */
export function isMissing (id: unknown): id is null | undefined | '' {
  return id == null || id === ''
}

/** @throws FST_BOTAS_STATE_INVALID_ID */
export function optionalId (id: unknown, field: string): string | undefined {
  return isMissing(id) ? undefined : validId(id, field)
}

/**
 * The id itself stays out of the message: it may be long, and it is personal data.
 *
 * @throws FST_BOTAS_STATE_INVALID_ID
 */
export function validId (id: unknown, field: string): string {
  if (typeof id !== 'string') throw new FST_BOTAS_STATE_INVALID_ID(field, id == null ? 'it is missing' : `expected a string, got ${describeType(id)}`)
  const flaw = flawOf(id)
  if (flaw !== undefined) throw new FST_BOTAS_STATE_INVALID_ID(field, flaw)
  return id
}

function flawOf (id: string): string | undefined {
  if (id === '') return 'it is empty'
  if (id.length > MAX_ID_LENGTH) return `it has ${id.length} characters, ${MAX_ID_LENGTH} are allowed`
  return unfitIn(id)
}

/** What no id can have, and so no key of a document. */
export function unfitIn (text: string): string | undefined {
  if (UNFIT.test(text)) return CONTROL_CHARACTER.test(text) ? 'it has a control character' : 'it has half of a surrogate pair'
}
