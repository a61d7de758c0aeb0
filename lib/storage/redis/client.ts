import { createRequire } from 'node:module'
import type * as ioredis from 'ioredis'
import type { Cluster, Redis } from 'ioredis'
import { describeType } from '../../document/describe-type.js'
import { describeUrl, invalidOption } from '../option-checks.js'
import { REDIS_URL_RULES, parseRedisUrl } from './url.js'

/** A client of ioredis. */
export type RedisClient = Redis | Cluster

/** How long a connection may take to be made, in milliseconds: a host that comes back is found soon. */
const CONNECT_TIMEOUT = 2000
/** How long a server may leave a command unanswered before the client reconnects, in milliseconds. */
const SOCKET_TIMEOUT = 5000
/** How long a server may take to confirm that a connection is closed, in milliseconds. */
const DISCONNECT_TIMEOUT = 200
/** The longest pause between two attempts to connect, or two questions whether a server has loaded its data, in milliseconds. */
const MAX_PAUSE = 500
/** How often a connection is made anew because its server became a replica, in milliseconds. */
const RESOLVE_INTERVAL = 5000

/**
 * A client of ours, which connects with the first command and for as long as it takes.
 *
 * @throws FST_BOTAS_STATE_INVALID_OPTION where that is no URL of a Redis, or ioredis is not installed
 */
export function openClient (url: string): RedisClient {
  const parsed = parseRedisUrl(url)
  if (parsed === undefined) throw invalidConnection(describeUrl(url))
  const { Cluster, Redis } = requireIoredis('connection')
  const pause = (attempt: number): number => Math.min(attempt * 50, MAX_PAUSE)
  const options = {
    connectTimeout: CONNECT_TIMEOUT,
    socketTimeout: SOCKET_TIMEOUT,
    disconnectTimeout: DISCONNECT_TIMEOUT,
    maxLoadingRetryTime: MAX_PAUSE,
    // CLIENT SETINFO is denied to users with minimal rights.
    disableClientInfo: true
  }
  const { tls, username, password, nodes } = parsed
  if (nodes.length === 1) {
    const client = new Redis(url, {
      ...options,
      lazyConnect: true,
      // RedisConnection resends unanswered commands.
      maxRetriesPerRequest: 0,
      retryStrategy: pause,
      reconnectOnError: replicaMet()
    })
    // If SELECT fails, ioredis stays connected to database 0: reconnect instead.
    client.on('error', (error: Error & { command?: { name: string } }) => {
      if (error.command?.name === 'select') client.disconnect(true)
    })
    return client
  }
  return new Cluster(nodes, {
    lazyConnect: true,
    clusterRetryStrategy: pause,
    // A certificate is issued for a host name, not for an address.
    ...(tls ? { dnsLookup: (address: string, found: (error: null, address: string) => void) => found(null, address) } : {}),
    redisOptions: {
      ...options,
      ...(username === '' ? {} : { username }),
      ...(password === '' ? {} : { password }),
      ...(tls ? { tls: {} } : {})
    }
  })
}

/** After a failover the name of a server may lead to another one, which a connection that goes on does not notice. */
function replicaMet (): (error: Error) => boolean {
  let last = -Infinity
  return ({ message }) => {
    if (!message.includes('READONLY') || performance.now() - last < RESOLVE_INTERVAL) return false
    last = performance.now()
    return true
  }
}

/** @throws FST_BOTAS_STATE_INVALID_OPTION where it is no client */
export function assertClient (client: RedisClient): void {
  const { getBuffer, set, del, on } = (client ?? {}) as Partial<Redis>
  if ([getBuffer, set, del, on].some((method) => typeof method !== 'function')) throw invalidConnection(describeType(client))
}

/**
 * Only needed for URLs: a caller that passes a client has ioredis.
 *
 * @param option that the URL was given in
 * @throws FST_BOTAS_STATE_INVALID_OPTION where it is not installed
 */
export function requireIoredis (option: string): typeof ioredis {
  const require = createRequire(import.meta.url)
  try {
    require.resolve('ioredis')
  } catch {
    throw invalidOption(option, 'used with the package ioredis', 'a Redis URL without it: npm install ioredis')
  }
  return require('ioredis')
}

function invalidConnection (got: string): Error {
  return invalidOption('connection', `a redis:// or rediss:// URL, ${REDIS_URL_RULES}, or a client of ioredis`, got)
}
