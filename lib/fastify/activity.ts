import { describeType, isObject } from '../document/describe-type.js'
import { FST_BOTAS_STATE_INVALID_ID } from '../errors.js'
import type { PersistedScope } from '../state/state-scope.js'
import { type TurnIdentity, isMissing, missingIds, optionalId, validId } from '../turn/identity.js'

const activityFields = {
  channelId: 'channelId',
  botId: 'recipient.id',
  conversationId: 'conversation.id',
  userId: 'from.id'
} as const

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

/** That a message was edited or deleted is posted with the id of the message. */
const EDITS: unknown[] = ['messageUpdate', 'messageDelete']

/**
 * By what an activity, or another body that has an `id`, is handled once: the default of `activityId`. It is the `id`; where a
 * message was edited or deleted, with the type and the `timestamp` of that.
 *
 * @example
 * app.botasState.run({ channelId, botId, conversationId, userId, activityId: activityId(activity) }, work)
 *
 * @param body anything
 * @returns `undefined` if it cannot be known again
 * @throws FST_BOTAS_STATE_INVALID_ID where an activity has an id that cannot be one
 */
export function activityId (body: unknown): string | undefined {
  const { id, type, timestamp, channelId, recipient } = membersOf(body)
  const isActivity = isObject(recipient) && !isMissing(channelId)
  const known = isActivity || typeof id === 'string' ? optionalId(id, 'id') : undefined
  if (known === undefined || !EDITS.includes(type)) return known
  // SDKs make a Date of it, whose text has no milliseconds.
  const time = timestamp instanceof Date ? timestamp.getTime() : Date.parse(String(timestamp))
  return Number.isNaN(time) ? undefined : `${known} ${type} ${time}`
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

function membersOf (value: unknown): Record<string, unknown> {
  return isObject(value) ? value : {}
}

function idOf (account: unknown, field: string): unknown {
  if (account == null) return undefined
  if (!isObject(account)) throw new FST_BOTAS_STATE_INVALID_ID(field, `expected the member of an object, got ${describeType(account)}`)
  return account.id
}
