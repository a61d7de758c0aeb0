/** Why a server that is connected is out of reach. */
export const SILENT = 'Redis: the server does not answer'

/** Errors of ioredis for a command that was not sent, or whose answer will not come. */
const LOST_NAMES = new Set(['MaxRetriesPerRequestError', 'AbortError', 'ClusterAllFailedError'])
const LOST = /^(Command timed out|Connection is closed|Stream isn't writeable|Cluster isn't ready|None of startup nodes|Too many Cluster redirections)/
/**
 * Replies of a server that starts or runs somebody's long script, of a Cluster that has no master for a key, of a master
 * that became a replica.
 */
const REFUSED = /\b(BUSY|LOADING|CLUSTERDOWN|TRYAGAIN|MASTERDOWN|NOREPLICAS|READONLY)\b/
/** Replies of a node, and an error of ioredis: the map of the Cluster has changed. */
const REDIRECTED = /^(MOVED |ASK |All keys in the pipeline should belong to the same slots)/

/**
 * What the error of a command says of it: it was `'refused'` for now, or, by a node of a Cluster that has not the key any
 * more, `'redirected'`, and not executed; it was `'lost'`, and may have been executed; `'final'`: trying again is no use.
 */
export type Failure = 'refused' | 'redirected' | 'lost' | 'final'

export function failureOf ({ name, message }: Error): Failure {
  if (LOST_NAMES.has(name) || LOST.test(message)) return 'lost'
  if (REFUSED.test(message)) return 'refused'
  return REDIRECTED.test(message) ? 'redirected' : 'final'
}

/** Whether a key holds something other than a string. */
export function isWrongType ({ message }: Error): boolean {
  return message.includes('WRONGTYPE')
}

/** Whether the keys of a command lie in different slots, by a server, or a proxy, that is part of a Cluster. */
export function isCrossSlot ({ message }: Error): boolean {
  return message.includes('CROSSSLOT')
}

/** An error of ioredis has the arguments of its command, which are private, and may quote them: the rest is passed on. */
export function withoutArguments (error: Error): Error {
  if (LOST_NAMES.has(error.name)) return new Error('Redis: the connection was lost before the answer came')
  return new Error(`Redis: ${error.message.replace(/,? with args beginning with.*/s, '')}`)
}

/** Why there is no connection. Credentials are among the arguments of a command, too. */
export function reasonOf (error: Error): Error {
  if (error.message.startsWith('Socket timeout')) return new Error(SILENT)
  const { lastNodeError, errors = [] } = error as Error & { lastNodeError?: Error, errors?: Error[] }
  const messages = [error, lastNodeError, ...errors].map((one) => one?.message ?? '').filter((message) => message !== '')
  return new Error(`Redis: ${messages.join(', ')}`)
}

/** Messages that differ only in numbers, such as attempts and ports, are one reason. */
export function withoutNumbers (message: string): string {
  return message.replace(/\d+/g, '')
}
