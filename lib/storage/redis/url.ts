/** Where a Redis is, as a URL says it. */
export interface RedisUrl {
  /** whether the connection is encrypted: `rediss:` */
  tls: boolean
  username: string
  password: string
  /** more than one for a Cluster, to begin with any of them */
  nodes: Array<{ host: string, port: number }>
}

/** What an error asks of the URL of a Redis. */
export const REDIS_URL_RULES = 'its password percent-encoded and its parameters among db, family, username and password'

/** ioredis would take any option from a query, as text, and throw from a timer where that should have been a number. */
const PARAMETER = /^(?:db=\d+|family=[046]|(?:username|password)=.+)$/s

/**
 * Reads `redis://user:password@host:port/database`, user and password percent-encoded, `rediss://…`, and, for a Cluster, several hosts with a comma
 * between them. The parameters `db`, `family`, `username` and `password` may follow. `undefined` where it is none of these.
 */
export function parseRedisUrl (url: string): RedisUrl | undefined {
  const [, scheme, credentials = '', hosts = '', rest = ''] = /^(rediss?:\/\/)([^#/?]*@)?([^@/?#]*)(\/?\d*(?:\?[^#]*)?)$/s.exec(url) ?? []
  const urls = hosts.split(',').map((host) => `${scheme}${credentials}${host}${rest}`)
  if (scheme === undefined || !urls.every((one) => URL.canParse(one))) return undefined
  // A Cluster has the database 0 only.
  if (urls.length > 1 && (!/^\/?0?$/.test(rest) || hosts.split(',').includes(''))) return undefined
  const nodes = urls.map((one) => new URL(one))
  if (nodes.some(({ searchParams }) => [...searchParams].some(([name, value]) => !PARAMETER.test(`${name}=${value}`)))) return undefined
  const [username, password] = decoded(nodes[0] as URL)
  if (username === undefined || password === undefined) return undefined
  return {
    tls: scheme === 'rediss://',
    username,
    password,
    nodes: nodes.map(({ hostname, port }) => ({ host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 6379) }))
  }
}

/** Nothing where a `%` stands for itself. */
function decoded ({ username, password }: URL): [username: string, password: string] | [] {
  try {
    return [decodeURIComponent(username), decodeURIComponent(password)]
  } catch {
    return []
  }
}
