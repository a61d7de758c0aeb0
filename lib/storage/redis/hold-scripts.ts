import type { Hold } from '../document-store.js'
import type { RedisClient } from './client.js'
import { LINE } from './line.js'
import { READ, type Script, type ScriptReply, runScript, scriptOf } from './script.js'

/** How long a turn stands in line without asking again, in milliseconds: a process may have died. */
const WAITER_LIFETIME = 2000

/** Begins the record of an activity that was handled, before the reply that was kept; otherwise it names who handles it. */
export const HANDLED = '='

/** The keys of what a turn holds, as the client sends them. */
export interface HoldKeys {
  readonly place: string | undefined
  readonly mark: string | undefined
}

/**
 * Takes the activity, then the place of a turn, then reads documents.
 *
 * KEYS: the mark of the activity, if there is one; the place, if one is taken; then the documents.
 * ARGV: whether there is an activity, 0 or 1; the strategy, '' for no place; the holder; how the holders of its process
 * begin; the lease and the lifetime of a waiting turn, in milliseconds; whether a later turn may replace this one; whether it is
 * waiting already.
 * Returns what became of it, see `Entry`, and after that the kept reply or the documents.
 */
const ENTER = scriptOf(`${READ}
local holder, origin, first = ARGV[3], ARGV[4], 1
if ARGV[1] == '1' then
  local mark = redis.call('GET', KEYS[1])
  if mark and string.sub(mark, 1, 1) == '${HANDLED}' then return { 'done', string.sub(mark, 2) } end
  if mark and string.sub(mark, 1, #origin) ~= origin then return { 'running' } end
  redis.call('SET', KEYS[1], holder, 'PX', ARGV[5])
  first = 2
end
if ARGV[2] ~= '' then
  ${LINE}
  local key, waiting = KEYS[first], ARGV[8] == '1'
  first = first + 1
  local function number(name) return tonumber(string.sub(name, #origin + 1)) or 0 end
  local line, found = line_at(key), nil
  found = position(line, holder)
  if not found and waiting and ARGV[2] == 'replace' then
    -- Where nobody has replaced it, it was forgotten: by an outage that outlasted its waiting, for instance.
    for _, turn in ipairs(line) do if turn.replaceable == '1' then return { 'replaced' } end end
  end
  local others = {}
  for i, turn in ipairs(line) do
    -- Of one process only the first turn in line asks: an earlier one has left, and a later one has replaced this one, whose
    -- command was overtaken.
    local gone = turn.holder ~= holder and string.sub(turn.holder, 1, #origin) == origin
    if gone and number(turn.holder) > number(holder) then return { 'replaced' } end
    local replaced = ARGV[2] == 'replace' and turn.replaceable == '1' and (not found or i < found)
    if turn.holder == holder or not (gone or replaced) then others[#others + 1] = turn end
  end
  line = others
  found = position(line, holder)
  if ARGV[2] == 'reject' and #line > 0 and found ~= 1 then return { 'taken' } end
  if not found then
    found = #line + 1
    line[found] = { holder = holder }
  end
  line[found].replaceable = ARGV[7]
  line[found].expires = now + (found == 1 and ARGV[5] or ARGV[6])
  keep(key, line)
  if found > 1 then return { 'waiting' } end
end
local reply = { 'entered' }
for i = first, #KEYS do reply[#reply + 1] = read(KEYS[i]) end
return reply
`)

/**
 * Holds an activity and a place for longer.
 *
 * KEYS: the mark, if there is an activity; the place, if there is one.
 * ARGV: whether there is an activity; the strategy, '' for no place; the holder; the lease, in milliseconds; whether a later turn
 * may replace this one.
 * Returns 0 where the place is not held any more, otherwise 1.
 */
const RENEW = scriptOf(`
if ARGV[1] == '1' and redis.call('GET', KEYS[1]) == ARGV[3] then redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) end
if ARGV[2] ~= '' then
  ${LINE}
  local line = line_at(KEYS[#KEYS])
  if position(line, ARGV[3]) ~= 1 then return 0 end
  line[1].expires = now + ARGV[4]
  line[1].replaceable = ARGV[5]
  keep(KEYS[#KEYS], line)
end
return 1
`)

/**
 * Lets go of an activity, which may be handled again, and of a place.
 *
 * KEYS: the mark, if there is an activity; the place, if there is one.
 * ARGV: whether there is an activity; the strategy, '' for no place; the holder.
 * Returns 1.
 */
const LEAVE = scriptOf(`
if ARGV[1] == '1' and redis.call('GET', KEYS[1]) == ARGV[3] then redis.call('DEL', KEYS[1]) end
if ARGV[2] ~= '' then
  ${LINE}
  keep(KEYS[#KEYS], without(line_at(KEYS[#KEYS]), ARGV[3]))
end
return 1
`)

/** @returns the outcome, and what comes with it */
export function enter (
  client: RedisClient, hold: Hold, keys: HoldKeys, isWaiting: boolean, documentKeys: string[]
): Promise<[outcome: string, ...rest: ScriptReply[]]> {
  const { activity, place, holder, origin, lease } = hold
  const args = [
    flag(activity !== undefined), place?.strategy ?? '', holder, origin, String(lease),
    String(Math.min(WAITER_LIFETIME, lease)), flag(place?.isReplaceable === true), flag(isWaiting)
  ]
  return runScript(client, ENTER, [...listOf(keys), ...documentKeys], args).then((reply) => {
    const [outcome, ...rest] = reply as ScriptReply[]
    return [String(outcome), ...rest]
  })
}

/** @returns whether the place, if there is one, is still held */
export async function renew (client: RedisClient, hold: Hold, keys: HoldKeys): Promise<boolean> {
  const reply = await run(client, RENEW, hold, keys, [String(hold.lease), flag(hold.place?.isReplaceable === true)])
  return Number(reply) === 1
}

export async function leave (client: RedisClient, hold: Hold, keys: HoldKeys): Promise<void> {
  await run(client, LEAVE, hold, keys, [])
}

function run (client: RedisClient, script: Script, hold: Hold, keys: HoldKeys, args: string[]): Promise<ScriptReply> {
  return runScript(client, script, listOf(keys), [flag(hold.activity !== undefined), hold.place?.strategy ?? '', hold.holder, ...args])
}

/** The keys in the order in which every script takes them. */
export function listOf ({ mark, place }: Partial<HoldKeys> = {}): string[] {
  return [mark, place].filter((key) => key !== undefined)
}

function flag (is: boolean): string {
  return is ? '1' : '0'
}
