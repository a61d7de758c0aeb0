import { createHash } from 'node:crypto'
import type { RedisClient } from './client.js'

/**
 * Replaces a document if it is still the expected one, in a single step. Gives 1, or else what is stored now.
 * ARGV: the SHA-1 digest of the expected document, '' for none: to send the document itself once more takes longer, from some
 * KB on; the text of the document to store, '' for none; the seconds that it is to live, left out for ever.
 */
const SCRIPT = `
local stored = redis.call('GET', KEYS[1])
if (stored and redis.sha1hex(stored) or '') ~= ARGV[1] then return stored end
if ARGV[2] == '' then redis.call('DEL', KEYS[1])
elseif ARGV[3] then redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
else redis.call('SET', KEYS[1], ARGV[2]) end
return 1
`
const SCRIPT_SHA = sha1(SCRIPT)

/** What the script gives: the stored text or `null` where it stored nothing, otherwise 1, as a client likes its numbers. */
type ScriptResult = Buffer | null | number | string

/** Every client of ioredis has these methods, though its types do not tell. */
interface ScriptRunner {
  evalshaBuffer(sha: string, keyCount: 1, key: string, ...args: Array<string | Buffer>): Promise<ScriptResult>
  evalBuffer(script: string, keyCount: 1, key: string, ...args: Array<string | Buffer>): Promise<ScriptResult>
}

/** What became of a comparison: the document was replaced, or something else is stored. */
export type Comparison = { replaced: true } | { replaced: false, stored: Buffer | null }

/**
 * Replaces the text at a key if it is the expected one. One command, unless the server has to be told the script.
 *
 * @param expected without it nothing is to be stored yet
 * @param next without it the text is removed
 * @param ttl in seconds, 0 for ever
 */
export function compareAndSet (
  client: RedisClient, key: string, expected: Buffer | string | undefined, next: Buffer | string = '', ttl = 0
): Promise<Comparison> {
  const scripts = client as unknown as ScriptRunner
  const args = [key, expected === undefined ? '' : sha1(expected), next, ...(ttl === 0 ? [] : [String(ttl)])] as const
  return scripts.evalshaBuffer(SCRIPT_SHA, 1, ...args).then(comparisonOf, (error: Error) => {
    if (!error.message.startsWith('NOSCRIPT')) throw forbidden(error) ?? error
    return scripts.evalBuffer(SCRIPT, 1, ...args).then(comparisonOf, (error) => { throw forbidden(error) ?? error })
  })
}

function sha1 (content: Buffer | string): string {
  return createHash('sha1').update(content).digest('hex')
}

function comparisonOf (result: ScriptResult): Comparison {
  return result === null || Buffer.isBuffer(result) ? { replaced: false, stored: result } : REPLACED
}

const REPLACED: Comparison = { replaced: true }

/** Some managed services allow no scripts. */
function forbidden ({ message }: Error): Error | undefined {
  if (!/(unknown command|no permissions to run the) ['`]eval(sha)?\b/i.test(message)) return undefined
  return new Error('a turn is saved by a script, which this server or its user does not allow: permit EVALSHA and EVAL, or use ' +
    `another server. It said: ${message}`)
}
