import type { Hold } from '../document-store.js'
import type { Lifetime } from '../expiry.js'
import type { RedisClient } from './client.js'
import { LOST_LIFETIME, waiterLifetime } from '../place-times.js'
import { LINE } from './line.js'
import { READ, UNREADABLE, type Script, type ScriptReply, runScript, scriptOf } from './script.js'

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
 * ARGV: as named in the first line; what is loaded lives for "renewal" seconds from now, where that is not ''.
 * Returns what became of it, see `Entry`, and after that the kept reply or the documents.
 */
const ENTER = scriptOf(`${READ}
local has_activity, strategy, own, origin, lease, waiter_lifetime, replaceable, renewal = unpack(ARGV)
local first = 1
if has_activity == '1' then
  local mark = redis.call('GET', KEYS[1])
  if mark and string.sub(mark, 1, 1) == '${HANDLED}' then return { 'done', string.sub(mark, 2) } end
  if mark and string.sub(mark, 1, #origin) ~= origin then return { 'running' } end
  redis.call('SET', KEYS[1], own, 'PX', lease)
  first = 2
end
if strategy ~= '' then
  ${LINE}
  local place = KEYS[first]
  first = first + 1
  local function number(holder) return tonumber(string.sub(holder, #origin + 1)) or 0 end
  local before, lost, expired = line_at(place, own)
  if lost[own] and strategy == 'replace' then return { 'replaced' } end
  lost[own] = nil
  local found, line = position(before, own), {}
  for i, turn in ipairs(before) do
    -- Of one process only the first turn in line asks: an earlier one has left, and a later one has replaced this one, whose
    -- command was overtaken.
    local is_gone = turn.holder ~= own and string.sub(turn.holder, 1, #origin) == origin
    if is_gone and number(turn.holder) > number(own) then return { 'replaced' } end
    local is_replaced = strategy == 'replace' and turn.replaceable == '1' and i < (found or #before + 1)
    if is_replaced and not is_gone then lost[turn.holder] = now + ${LOST_LIFETIME} end
    if turn.holder == own or not (is_gone or is_replaced) then line[#line + 1] = turn end
  end
  found = position(line, own)
  if strategy == 'reject' and #line > 0 and found ~= 1 then return { 'taken' } end
  if not found then
    found = #line + 1
    line[found] = { holder = own }
  end
  line[found].replaceable = replaceable
  line[found].expires = now + (found == 1 and lease or waiter_lifetime)
  if found == 1 and expired then
    lost[expired.holder] = now + ${LOST_LIFETIME}
    expired = nil
  end
  keep(place, line, lost, expired)
  if found > 1 then return { 'waiting' } end
end
local reply = { 'entered' }
for i = first, #KEYS do
  local text = read(KEYS[i])
  if text and text ~= ${UNREADABLE} and renewal ~= '' then redis.call('GETEX', KEYS[i], 'EX', renewal) end
  reply[#reply + 1] = text
end
return reply
`)

/**
 * Holds an activity and a place for longer.
 *
 * KEYS: the mark, if there is an activity; the place, if there is one.
 * ARGV: as named in the first line.
 * Returns 0 where another turn has taken the place, otherwise 1.
 */
const RENEW = scriptOf(`
local has_activity, strategy, own, lease, replaceable = unpack(ARGV)
if has_activity == '1' and redis.call('GET', KEYS[1]) == own then redis.call('SET', KEYS[1], own, 'PX', lease) end
if strategy ~= '' then
  ${LINE}
  local place = KEYS[#KEYS]
  local line, lost, expired = line_at(place, own)
  if not has_place(line, lost, expired, own) then return 0 end
  line[1] = { holder = own, expires = now + lease, replaceable = replaceable }
  keep(place, line, lost, expired)
end
return 1
`)

/**
 * Lets go of an activity, which may be handled again, and of a place.
 *
 * KEYS: the mark, if there is an activity; the place, if there is one.
 * ARGV: as named in the first line.
 * Returns 1.
 */
const LEAVE = scriptOf(`
local has_activity, strategy, own = unpack(ARGV)
if has_activity == '1' and redis.call('GET', KEYS[1]) == own then redis.call('DEL', KEYS[1]) end
if strategy ~= '' then
  ${LINE}
  local place = KEYS[#KEYS]
  local line, lost, expired = line_at(place, own)
  leave(place, line, lost, expired, own)
end
return 1
`)

/** @returns the outcome, and what comes with it */
export function enter (
  client: RedisClient, hold: Hold, keys: HoldKeys, documentKeys: string[], { seconds, isRenewedByLoads }: Lifetime
): Promise<[outcome: string, ...rest: ScriptReply[]]> {
  const { activity, place, holder, origin, lease } = hold
  const args = [
    flag(activity !== undefined), place?.strategy ?? '', holder, origin, String(lease),
    String(waiterLifetime(lease)), flag(place?.isReplaceable === true),
    isRenewedByLoads ? String(seconds) : ''
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
