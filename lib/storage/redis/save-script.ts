import type { TextDocument } from '../../document/text-document.js'
import type { Replacement } from '../compare-and-set.js'
import type { SaveOutcome, TurnEnd } from '../document-store.js'
import type { RedisClient } from './client.js'
import { HANDLED, type HoldKeys, listOf } from './hold-scripts.js'
import { LINE } from './line.js'
import { READ, UNREADABLE, type ScriptReply, runScript, scriptOf, sha1 } from './script.js'

/** What became of a save, as the script numbers it. */
const OUTCOMES = { 1: 'saved', 2: 'overlapped', 3: 'replaced', 4: 'handled' } as const

/**
 * Saves documents in a single step, all or none, if each is still what it was when it was loaded. At the end of a turn that
 * holds something, lets go of the place and remembers the activity in the same step.
 *
 * KEYS: the token of this save; the mark of the activity, if one is remembered; the place, if one is held; then the documents.
 * ARGV: as named in the first lines; then for each document the digest of what was loaded, see `digestOf`, and the text to store, ''
 * for none. The ttl of the token is in milliseconds, those of documents, 0 for ever, and of the record in seconds; a record is '' where none is stored, and "lost" what becomes of a turn that lost its place, 'refused', 'merged', or '' for
 * no place.
 * Returns the number of an outcome, now or of the same command before, whose answer was lost; or else, where documents have
 * changed, what is stored, in the order of the documents.
 */
const SAVE = scriptOf(`${READ}
local token_ttl, document_ttl, record, record_ttl, if_lost, own, leaves = unpack(ARGV, 1, 7)
local before = redis.call('GET', KEYS[1])
if before then return tonumber(before) end
local first, outcome, mark, leave_place = 2, 1, nil, nil
if record ~= '' then
  mark = KEYS[first]
  first = first + 1
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
  if tostring(digest) ~= ARGV[8 + 2 * (i - first)] then changed = true end
  stored[#stored + 1] = text
end
if changed then return stored end
for i = first, #KEYS do
  local text = ARGV[9 + 2 * (i - first)]
  if text == '' then redis.call('DEL', KEYS[i])
  elseif document_ttl == '0' then redis.call('SET', KEYS[i], text)
  else redis.call('SET', KEYS[i], text, 'EX', document_ttl) end
end
if mark then redis.call('SET', mark, record, 'EX', record_ttl) end
if leave_place and leaves == '1' then leave_place() end
redis.call('SET', KEYS[1], outcome, 'PX', token_ttl)
return outcome
`)

/** How a command saves documents. */
export interface SaveOptions {
  /** The key of the token by which a save is recognised that is sent again. */
  readonly token: string
  /** How long a lost answer may be asked for, in milliseconds. */
  readonly tokenLifetime: number
  /** In seconds, 0 for ever. */
  readonly ttl: number
  /** What else the save is about. */
  readonly end: { readonly keys: HoldKeys, readonly of: TurnEnd } | undefined
}

/** @returns what became of the save; or what is stored where the documents have changed */
export function saveTogether (client: RedisClient, replacements: Array<Replacement<TextDocument | undefined>>, options: SaveOptions): Promise<SaveOutcome | ScriptReply[]> {
  const { token, tokenLifetime, ttl, end } = options
  const keys = [token, ...listOf(end?.keys), ...replacements.map(({ key }) => key)]
  const texts = replacements.flatMap(({ stored, next }) => [digestOf(stored), next?.content ?? ''])
  return runScript(client, SAVE, keys, [String(tokenLifetime), String(ttl), ...argsOf(end), ...texts])
    .then((reply) => Array.isArray(reply) ? reply : OUTCOMES[Number(reply) as keyof typeof OUTCOMES])
}

function argsOf (end: SaveOptions['end']): string[] {
  if (end === undefined) return ['', '', '', '', '']
  const { keys, of: { hold: { place, holder, activity }, reply, leaves } } = end
  return [
    ...(keys.mark === undefined ? ['', ''] : [HANDLED + reply, String(activity?.ttl)]),
    ...(keys.place === undefined ? [''] : [place?.isReplaceable === true ? 'refused' : 'merged']),
    holder,
    leaves ? '1' : '0'
  ]
}

/** Compared in place of the document: to send that once more takes longer, from some KB on. */
function digestOf (document: TextDocument | undefined): string {
  if (document === undefined) return ''
  return document.isReadable ? sha1(document.content) : String(UNREADABLE)
}
