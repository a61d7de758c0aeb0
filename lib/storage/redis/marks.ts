import type { RedisClient } from './client.js'
import { HANDLED } from './hold-scripts.js'
import { runScript, scriptOf } from './script.js'

/**
 * Beside each document stands an index of its marks, by which they are found when it is forgotten: a sorted set of activities, and of when
 * their time is over, by the clock of the server in milliseconds.
 */

/**
 * Forgets activities that were handled; one that is handled again now is left to who handles it.
 *
 * KEYS: the index; marks.
 * ARGV: their members of the index, in their order.
 * Returns 1.
 */
const FORGET = scriptOf(`
for i, member in ipairs(ARGV) do
  local mark = KEYS[i + 1]
  if string.sub(redis.call('GET', mark) or '', 1, 1) == '${HANDLED}' then redis.call('DEL', mark) end
  redis.call('ZREM', KEYS[1], member)
end
return 1
`)

/** An activity in the index, and at the end of the key of its mark. */
export function memberOf (id: string): string {
  return encodeURIComponent(id)
}

/** @param marks the keys of these members, in their order */
export async function forgetMarks (client: RedisClient, index: string, members: string[], marks: string[]): Promise<void> {
  await runScript(client, FORGET, [index, ...marks], members)
}
