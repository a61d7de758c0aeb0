import { encodeValue } from './json-value.js'

/** Begins what stands for a number beyond JavaScript's range, such as the 1e400 that another language has stored. */
const BEYOND = '\0number '
const BEYOND_IN_JSON = JSON.stringify(BEYOND).slice(1, -1)

/** The text by which a value out of a stored document is compared with what a turn makes of it. */
export function encodeStored (value: unknown): string | undefined {
  try {
    return encodeValue(value, '')
  } catch {
    return encodeBeyond(value)
  }
}

/** A new value of what `encodeStored` gave. */
export function decodeStored (text: string | undefined): unknown {
  if (text === undefined) return undefined
  return isLossless(text) ? JSON.parse(text) : JSON.parse(text, restoreNumber)
}

/** Whether a text of `encodeStored` is what JavaScript can store again. */
export function isLossless (text: string | undefined): boolean {
  return text === undefined || !text.includes(BEYOND_IN_JSON)
}

/** Nothing where JSON cannot hold a value: then it is not what was stored. */
function encodeBeyond (value: unknown): string | undefined {
  try {
    return JSON.stringify(value, (_name, member) => isBeyond(member) ? `${BEYOND}${member}` : member)
  } catch {}
}

function isBeyond (value: unknown): boolean {
  return typeof value === 'number' && !Number.isFinite(value)
}

function restoreNumber (_name: string, value: unknown): unknown {
  return typeof value === 'string' && value.startsWith(BEYOND) ? Number(value.slice(BEYOND.length)) : value
}
