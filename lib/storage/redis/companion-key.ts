import type { RedisClient } from './client.js'

/**
 * The key of what stands beside a document: `<keyPrefix>~<kind>:{<key of the document>}<rest>`. It lies in the slot of the
 * document, for a key without braces hashes as a whole, and one with a hash tag by that:
 * https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
 *
 * @param clientPrefix the `keyPrefix` of the client, which it puts before every key
 */
export function companionKey (kind: string, keyPrefix: string, documentKey: string, rest: string, clientPrefix = ''): string {
  const hashed = clientPrefix + keyPrefix + documentKey
  const tag = hashTagOf(hashed) ?? (hashed.includes('}') ? tagInSlot(slotOf(hashed)) : undefined)
  return tag === undefined
    ? `${keyPrefix}~${kind}:{${hashed}}${rest}`
    : `${keyPrefix}~${kind}:{${tag}}${documentKey}${rest}`
}

/** Whether a prefix leads every key elsewhere than the hash tag that comes after it. */
export function hidesHashTags (prefix: string): boolean {
  return prefix.includes('{') && hashTagOf(prefix) === undefined
}

/** What a client puts before every key by itself. */
export function clientPrefixOf (client: RedisClient): string {
  const { keyPrefix, redisOptions } = client.options as { keyPrefix?: string, redisOptions?: { keyPrefix?: string } }
  return keyPrefix ?? redisOptions?.keyPrefix ?? ''
}

/** What a Cluster hashes in place of a key: what is between its first `{` and the next `}`, unless that is nothing. */
function hashTagOf (key: string): string | undefined {
  const start = key.indexOf('{')
  const end = start < 0 ? -1 : key.indexOf('}', start)
  return end > start + 1 ? key.slice(start + 1, end) : undefined
}

const SLOTS = 16_384
/** A tag for each slot, made when one is first needed: few keys have a brace. */
let tags: string[] | undefined

function tagInSlot (slot: number): string {
  if (tags === undefined) {
    tags = []
    let missing = SLOTS
    for (let number = 0; missing > 0; number++) {
      const tag = number.toString(36)
      const found = slotOf(tag)
      if (tags[found] !== undefined) continue
      tags[found] = tag
      missing--
    }
  }
  return tags[slot] as string
}

/** CRC-16/XMODEM of the whole key, as a Cluster computes it. */
function slotOf (key: string): number {
  let crc = 0
  for (const byte of Buffer.from(key)) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit++) crc = ((crc << 1) ^ ((crc & 0x8000) === 0 ? 0 : 0x1021)) & 0xFFFF
  }
  return crc % SLOTS
}
