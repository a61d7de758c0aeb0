import createError from '@fastify/error'

/** What the bot uses of a Bot Framework activity. */
export interface Activity {
  type: string
  id?: string
  text?: string
  channelId: string
  serviceUrl?: string
  deliveryMode?: string
  replyToId?: string
  from?: Account
  recipient: Account
  conversation: Account
}

interface Account {
  id: string
  name?: string
}

/** What must be there for a reply to be possible; everything else may be as the channel likes it. */
export const activitySchema = {
  type: 'object',
  required: ['type', 'channelId', 'recipient', 'conversation'],
  properties: {
    type: { type: 'string' },
    id: { type: 'string' },
    text: { type: 'string' },
    serviceUrl: { type: 'string' },
    deliveryMode: { type: 'string' },
    conversation: { type: 'object', required: ['id'] }
  }
}

const InvalidServiceUrl = createError('INVALID_SERVICE_URL',
  '"serviceUrl" must be an http(s) URL to send the reply to; with "deliveryMode": "expectReplies" the reply comes in the response', 400)
const ReplyNotDelivered = createError('REPLY_NOT_DELIVERED', 'the reply could not be sent to %s: %s', 502)

/** How long the channel may take to accept a reply, in milliseconds. */
const DELIVERY_TIMEOUT = 10_000

export function replyTo (activity: Activity, text: string): Activity {
  return {
    type: 'message',
    text,
    channelId: activity.channelId,
    conversation: activity.conversation,
    from: activity.recipient,
    ...activity.from && { recipient: activity.from },
    ...activity.id !== undefined && { replyToId: activity.id }
  } as Activity
}

/**
 * Posts a reply to the channel that the activity came from. It has no token: the Playground and the Emulator take it, Teams does
 * not. Behind Teams an SDK sends the replies, see the examples with one.
 */
export async function deliver (activity: Activity, reply: Activity): Promise<void> {
  const url = repliesUrl(activity)
  let response: Response
  try {
    response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(reply),
      signal: AbortSignal.timeout(DELIVERY_TIMEOUT)
    })
  } catch (error) {
    throw new ReplyNotDelivered(activity.serviceUrl, reasonOf(error as Error))
  }
  await response.body?.cancel()
  if (!response.ok) throw new ReplyNotDelivered(activity.serviceUrl, `status ${response.status}`)
}

/** fetch says "fetch failed" and keeps the reason, a Node error or a message, in the cause. */
function reasonOf ({ cause, message }: Error): string {
  const { code, message: detail } = Object(cause) as NodeJS.ErrnoException
  return [code, detail, message].find((reason) => reason !== undefined) as string
}

function repliesUrl ({ serviceUrl, conversation, id }: Activity): string {
  if (serviceUrl === undefined || !/^https?:\/\//i.test(serviceUrl) || !URL.canParse(serviceUrl)) throw new InvalidServiceUrl()
  const activities = `${serviceUrl.replace(/\/+$/, '')}/v3/conversations/${encodeURIComponent(conversation.id)}/activities`
  return id === undefined ? activities : `${activities}/${encodeURIComponent(id)}`
}
