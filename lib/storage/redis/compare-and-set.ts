import { createHash } from 'node:crypto'
import type { TextDocument } from '../../document/text-document.js'
import type { RedisClient } from './client.js'

/** In place of a digest: something that is not a string. */
const UNREADABLE = 'unreadable'

/**
 * Replaces a document if it is still the loaded one, in a single step.
 *
 * KEYS: the document.
 * ARGV: the digest of what was loaded, see `digestOf`; the text to store, '' for none; the seconds that it is to live, left out
 * for ever.
 * Returns 1, or else what is stored now.
 */
const SCRIPT = `
local stored = redis.pcall('GET', KEYS[1])
local digest = ''
if type(stored) == 'table' then digest = '${UNREADABLE}' elseif stored then digest = redis.sha1hex(stored) end
if digest ~= ARGV[1] then return stored end
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
 * Replaces what is stored at a key if it is what was loaded. One command, unless the server has to be told the script.
 *
 * @param loaded without it nothing is to be stored yet
 * @param next without it the document is removed
 * @param ttl in seconds, 0 for ever
 */
export function compareAndSet (
  client: RedisClient, key: string, loaded: TextDocument | undefined, next: TextDocument | undefined, ttl = 0
): Promise<Comparison> {
  const scripts = client as unknown as ScriptRunner
  const args = [key, digestOf(loaded), next?.content ?? '', ...(ttl === 0 ? [] : [String(ttl)])] as const
  return scripts.evalshaBuffer(SCRIPT_SHA, 1, ...args).then(comparisonOf, (error: Error) => {
    if (!error.message.startsWith('NOSCRIPT')) throw forbidden(error) ?? error
    return scripts.evalBuffer(SCRIPT, 1, ...args).then(comparisonOf, (error) => { throw forbidden(error) ?? error })
  })
}

/** Compared in place of the document: to send that once more takes longer, from some KB on. */
function digestOf (document: TextDocument | undefined): string {
  if (document === undefined) return ''
  return document.isReadable ? sha1(document.content) : UNREADABLE
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
