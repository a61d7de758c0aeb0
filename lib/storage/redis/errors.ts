import type { Failure } from '../outage-gate.js'

/** Errors of ioredis for a command that was not sent, or whose answer will not come. */
const LOST_NAMES = new Set(['MaxRetriesPerRequestError', 'AbortError', 'ClusterAllFailedError'])
const LOST = /^(Command timed out|Connection is closed|Stream isn't writeable|Cluster isn't ready|None of startup nodes|Too many Cluster redirections)/
/**
 * Replies of a server that starts or runs somebody's long script, of a Cluster that has no master for a key, of a master
 * that became a replica.
 */
const REFUSED = /\b(BUSY|LOADING|CLUSTERDOWN|TRYAGAIN|MASTERDOWN|NOREPLICAS|READONLY)\b/
/** Replies of a node, also to a script whose keys are moving, and an error of ioredis: the map of the Cluster has changed. */
const REDIRECTED = /^(MOVED |ASK |All keys in the pipeline should belong to the same slots)|non local key in a cluster node/

/** @param isCluster of which another node may have the key by now */
export function failureOf ({ name, message }: Error, isCluster: boolean): Failure {
  if (LOST_NAMES.has(name) || LOST.test(message)) return 'lost'
  return REFUSED.test(message) || (isCluster && REDIRECTED.test(message)) ? 'busy' : 'final'
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
  if (error.message.startsWith('Socket timeout')) return new Error('Redis: the server does not answer')
  const { lastNodeError, errors = [] } = error as Error & { lastNodeError?: Error, errors?: Error[] }
  const messages = [error, lastNodeError, ...errors].map((one) => one?.message ?? '').filter((message) => message !== '')
  return new Error(`Redis: ${messages.join(', ')}`)
}
