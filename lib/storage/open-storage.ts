import { fileURLToPath } from 'node:url'
import { describeUrl, invalidOption, schemeOf } from './option-checks.js'
import { FileStorage } from './file/file-storage.js'
import { MemoryStorage } from './memory/memory-storage.js'
import { POSTGRES_URL_RULES, isPostgresUrl, requirePg } from './postgres/pool.js'
import { PostgresStorage } from './postgres/postgres-storage.js'
import { requireIoredis } from './redis/client.js'
import { RedisStorage } from './redis/redis-storage.js'
import { REDIS_URL_RULES, parseRedisUrl } from './redis/url.js'
import type { Storage } from './storage.js'

/**
 * The storage that a URL names: `memory:`, `file:./relative`, `file:///absolute`, `redis://…`, `rediss://…` or `postgres://…`.
 *
 * @throws FST_BOTAS_STATE_INVALID_OPTION where it names none. The message has no more of the URL than its scheme.
 */
export function openStorage (url: string): Storage {
  const [, scheme, rest] = /^([a-z]+):(.*)$/s.exec(url) ?? []
  if (scheme === 'memory' && rest === '') return new MemoryStorage()
  if (scheme === 'file') return new FileStorage(directoryOf(url, rest as string))
  if (parseRedisUrl(url) !== undefined) return openRedis(url)
  if (isPostgresUrl(url)) return openPostgres(url)
  throw invalid(url)
}

function openRedis (url: string): Storage {
  // So that the error names "storage", not RedisStorage's "connection".
  requireIoredis('storage')
  return new RedisStorage(url)
}

function openPostgres (url: string): Storage {
  requirePg('storage')
  return new PostgresStorage(url)
}

function directoryOf (url: string, path: string): string {
  try {
    const directory = path.startsWith('//') ? fileURLToPath(url) : path
    if (directory !== '' && schemeOf(directory) === undefined) return directory
  } catch {
    // Not a path: refused below, by our own error.
  }
  throw invalid(url)
}

function invalid (url: string): Error {
  if (/^postgres/.test(url)) return invalidOption('storage', POSTGRES_URL_RULES, describeUrl(url))
  return invalidOption('storage',
    `a URL like memory:, file:./bot-state, postgres://host/database, redis://host:6379 or rediss://host:6379, ${REDIS_URL_RULES}`, describeUrl(url))
}
