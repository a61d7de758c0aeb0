import type { TextDocument } from '../../document/text-document.js'
import type { Replacement } from '../compare-and-set.js'
import type { SaveOutcome, TurnEnd } from '../document-store.js'
import type { RedisClient } from './client.js'
import { HANDLED, type HoldKeys, listOf } from './hold-scripts.js'
import { LINE } from './line.js'
import { READ, UNREADABLE, type ScriptReply, runScript, scriptOf, sha1 } from './script.js'

/** What became of a save, as the script numbers it. */
const OUTCOMES = { 1: 'saved', 2: 'overlapped', 3: 'replaced', 4: 'handled' } as const

/** Of so many processes the one that came first makes room: more do not come while one of them waits for a lost answer. */
const MAX_TOKENS = 64

/**
 * Saves documents in a single step, all or none, if each is still what it was when it was loaded. At the end of a turn that
 * holds something, lets go of the place and remembers the activity in the same step.
 *
 * KEYS: the tokens of the saves beside one document; the mark of the activity and the index of marks, if one is remembered; the place, if one
 * is held; then the documents.
 * ARGV: as named in the first lines; then for each document the digest of what was loaded, see `digestOf`, and the text to store, ''
 * for none; then for each document of which nothing is to be left the index of its marks, and how their keys begin. These and the marks lie in
 * its slot. The ttl of tokens is in milliseconds, those of documents, 0 for ever, and of the record in seconds; a record is '' where none is stored, and "lost" what becomes of a turn that lost its place, 'refused', 'merged', or '' for
 * no place.
 * Returns the number of an outcome, now or of the same command before, whose answer was lost; or else, where documents have
 * changed, what is stored, in the order of the documents.
 */
const SAVE = scriptOf(`${READ}
local token_ttl, document_ttl, origin, number, record, record_ttl, activity, if_lost, own, leaves = unpack(ARGV, 1, 10)
local function keep_for(key, ttl)
  if redis.call('PTTL', key) < tonumber(ttl) then redis.call('PEXPIRE', key, ttl) end
end
local before = redis.call('HGET', KEYS[1], origin)
if before then
  local last, outcome = string.match(before, '(%d+):(%d)')
  if last == number then return tonumber(outcome) end
  -- A later save has overtaken what was sent again: nobody waits for its answer.
  if tonumber(last) > tonumber(number) then return 3 end
end
local first, outcome, mark, marks, leave_place = 2, 1, nil, nil, nil
if record ~= '' then
  mark, marks = KEYS[first], KEYS[first + 1]
  first = first + 2
  if string.sub(redis.call('GET', mark) or '', 1, 1) == '${HANDLED}' then return 4 end
end
if if_lost ~= '' then
  ${LINE}
  local place = KEYS[first]
  first = first + 1
  local line, lost, expired = line_at(place, own)
  if not has_place(line, lost, expired, own) then
    if if_lost == 'refused' then return 3 end
    outcome = 2
  end
  leave_place = function () leave(place, line, lost, expired, own) end
end
local stored, changed = {}, false
for i = first, #KEYS do
  local text, digest = read(KEYS[i]), ''
  if text == ${UNREADABLE} then digest = text elseif text then digest = redis.sha1hex(text) end
  if tostring(digest) ~= ARGV[11 + 2 * (i - first)] then changed = true end
  stored[#stored + 1] = text
end
if changed then return stored end
-- Before anything is written: in a slot that moves, a key may be on another node already.
local forgotten = {}
for i = 11 + 2 * (#KEYS - first + 1), #ARGV, 2 do
  for _, member in ipairs(redis.call('ZRANGE', ARGV[i], 0, -1)) do
    local beside = ARGV[i + 1] .. member
    -- One that is handled again now is left to who handles it.
    if string.sub(redis.call('GET', beside) or '', 1, 1) == '${HANDLED}' then forgotten[#forgotten + 1] = beside end
  end
  forgotten[#forgotten + 1] = ARGV[i]
end
for i = first, #KEYS do
  local text = ARGV[12 + 2 * (i - first)]
  if text == '' then redis.call('DEL', KEYS[i])
  elseif document_ttl == '0' then redis.call('SET', KEYS[i], text)
  else redis.call('SET', KEYS[i], text, 'EX', document_ttl) end
end
for _, key in ipairs(forgotten) do redis.call('DEL', key) end
if mark then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('SET', mark, record, 'EX', record_ttl)
  redis.call('ZADD', marks, string.format('%.0f', now + record_ttl * 1000), activity)
  redis.call('ZREMRANGEBYSCORE', marks, '-inf', string.format('%.0f', now))
  keep_for(marks, string.format('%.0f', record_ttl * 1000))
end
if leave_place and leaves == '1' then leave_place() end
redis.call('HSET', KEYS[1], origin, number .. ':' .. outcome)
-- So few are in the order in which they came.
if not before and redis.call('HLEN', KEYS[1]) > ${MAX_TOKENS} then redis.call('HDEL', KEYS[1], redis.call('HKEYS', KEYS[1])[1]) end
keep_for(KEYS[1], token_ttl)
return outcome
`)

/**
 * Names a save. Of each origin the last one is kept: its saves with tokens under one key follow each other, each with a greater number.
 */
export interface Token {
  readonly key: string
  /** the process and its storage */
  readonly origin: string
  readonly number: number
}

/** How a command saves documents. */
export interface SaveOptions {
  /** By what a save is recognised that is sent again. */
  readonly token: Token
  /** How long a lost answer may be asked for, in milliseconds. */
  readonly tokenLifetime: number
  /** In seconds, 0 for ever. */
  readonly ttl: number
  /** What else the save is about. */
  readonly end: SaveEnd | undefined
  /** What is found of the marks beside documents of which nothing is to be left. */
  readonly forgotten: Marks[]
}

/** The marks beside a document, by keys with all prefixes. */
export interface Marks {
  /**
   * Of a sorted set: the activities that were handled, each as the end of the key of its mark, and when its time is over, by the clock of
   * the server in milliseconds.
   */
  readonly index: string
  /** How the keys of marks begin. */
  readonly beginning: string
}

/** The end of a turn, and where what it holds is kept. */
export interface SaveEnd {
  readonly of: TurnEnd
  readonly keys: HoldKeys
  /** of the index of marks */
  readonly marks: string
}

/** @returns what became of the save; or what is stored where the documents have changed */
export function saveTogether (client: RedisClient, replacements: Array<Replacement<TextDocument | undefined>>, options: SaveOptions): Promise<SaveOutcome | ScriptReply[]> {
  const { token, tokenLifetime, ttl, end, forgotten } = options
  const keys = [token.key, ...keysOf(end), ...replacements.map(({ key }) => key)]
  const texts = replacements.flatMap(({ stored, next }) => [digestOf(stored), next?.content ?? ''])
  const marks = forgotten.flatMap(({ index, beginning }) => [index, beginning])
  return runScript(client, SAVE, keys, [String(tokenLifetime), String(ttl), token.origin, String(token.number), ...argsOf(end), ...texts, ...marks])
    .then((reply) => Array.isArray(reply) ? reply : OUTCOMES[Number(reply) as keyof typeof OUTCOMES])
}

function keysOf (end: SaveEnd | undefined): string[] {
  if (end?.keys.mark === undefined) return listOf(end?.keys)
  const { keys: { mark, place }, marks } = end
  return [mark, marks, ...listOf({ place })]
}

function argsOf (end: SaveEnd | undefined): string[] {
  if (end === undefined) return ['', '', '', '', '', '']
  const { keys, of: { hold: { place, holder, activity }, reply, leaves } } = end
  return [
    ...(keys.mark === undefined ? ['', '', ''] : [HANDLED + reply, String(activity?.ttl), memberOf(String(activity?.id))]),
    ...(keys.place === undefined ? [''] : [place?.isReplaceable === true ? 'refused' : 'merged']),
    holder,
    leaves ? '1' : '0'
  ]
}

/** An activity in the index of marks, and at the end of the key of its own. */
export function memberOf (id: string): string {
  return encodeURIComponent(id)
}

/** Compared in place of the document: to send that once more takes longer, from some KB on. */
function digestOf (document: TextDocument | undefined): string {
  if (document === undefined) return ''
  return document.isReadable ? sha1(document.content) : String(UNREADABLE)
}
