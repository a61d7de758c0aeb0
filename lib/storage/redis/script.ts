import { createHash } from 'node:crypto'
import type { RedisClient } from './client.js'

/** What a script gives: an integer is a text where a client likes its numbers so. */
export type ScriptReply = Buffer | null | number | string | ScriptReply[]

/** What a script gives in place of a document that is not a string. */
export const UNREADABLE = 0

/** In Lua: what is stored at a key, `false` for nothing. */
export const READ = `
local function read(key)
  local text = redis.pcall('GET', key)
  if type(text) ~= 'table' then return text end
  if string.find(text.err, 'WRONGTYPE', 1, true) then return ${UNREADABLE} end
  return redis.call('GET', key)
end`

/** A script of Redis, and the name by which a server knows it. */
export interface Script {
  readonly text: string
  readonly digest: string
}

/** Every client of ioredis has these methods, though its types do not tell. */
interface ScriptRunner {
  evalshaBuffer(digest: string, keyCount: number, ...args: Array<string | Buffer>): Promise<ScriptReply>
  evalBuffer(text: string, keyCount: number, ...args: Array<string | Buffer>): Promise<ScriptReply>
}

export function scriptOf (text: string): Script {
  return { text, digest: sha1(text) }
}

/** Runs a script. One command, unless the server has to be told the text. */
export function runScript (
  client: RedisClient, { text, digest }: Script, keys: string[], args: Array<string | Buffer>
): Promise<ScriptReply> {
  const runner = client as unknown as ScriptRunner
  return runner.evalshaBuffer(digest, keys.length, ...keys, ...args).catch((error: Error) => {
    if (!error.message.startsWith('NOSCRIPT')) throw forbidden(error) ?? error
    return runner.evalBuffer(text, keys.length, ...keys, ...args).catch((error) => { throw forbidden(error) ?? error })
  })
}

export function sha1 (content: Buffer | string): string {
  return createHash('sha1').update(content).digest('hex')
}

/** Some managed services allow no scripts. */
function forbidden ({ message }: Error): Error | undefined {
  if (!/(unknown command|no permissions to run the) ['`]eval(sha)?\b/i.test(message)) return undefined
  return new Error('a turn is saved by a script, which this server or its user does not allow: permit EVALSHA and EVAL, or use ' +
    `another server. It said: ${message}`)
}
