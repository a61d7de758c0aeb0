import { FST_BOTAS_STATE_INVALID_OPTION } from '../errors.js'
import { describeType } from '../document/describe-type.js'

/** Enough for any count; 68 years in seconds. */
const MAX_WHOLE_NUMBER = 2 ** 31 - 1

/** Text that may be shown: it is no URL, and no part of one with a password, since it has neither `:` nor `@`; and too short for a key. */
const HARMLESS = /^[\w .-]{0,30}$/

/**
 * Rejects unknown options: with a misspelt `storage` a bot would silently forget everything.
 *
 * @param others options that are handled elsewhere
 * @param parent what comes before the names in the error
 * @throws FST_BOTAS_STATE_INVALID_OPTION
 */
export function assertKnownOptions (options: object, names: string[], others: string[] = [], parent = ''): void {
  if (typeof options !== 'object' || options === null) throw invalidOption('options', 'an object', describeType(options))
  for (const name of Object.keys(options)) {
    if (names.includes(name) || others.includes(name)) continue
    const shown = HARMLESS.test(name) ? name : `${schemeOf(name) ?? ''}…`
    throw new FST_BOTAS_STATE_INVALID_OPTION(`unknown option "${parent}${shown}"; known options: ${names.map((name) => parent + name).join(', ')}`)
  }
}

/** The error of an option whose value is wrong. `got` must not be the value where that may hold a password. */
export function invalidOption (name: string, expected: string, got: string): Error {
  return new FST_BOTAS_STATE_INVALID_OPTION(`the option "${name}" must be ${expected}, got ${got}`)
}

/**
 * Accepts `undefined`.
 *
 * @param unit what is counted
 * @throws FST_BOTAS_STATE_INVALID_OPTION
 */
export function assertWholeNumber (name: string, value: unknown, unit: string): asserts value is number | undefined {
  if (value === undefined || (Number.isInteger(value) && (value as number) >= 1 && (value as number) <= MAX_WHOLE_NUMBER)) return
  throw invalidOption(name, `a whole number of ${unit} from 1 to ${MAX_WHOLE_NUMBER}`,
    typeof value === 'number' ? String(value) : describeType(value))
}

/** The scheme that a text begins with, if it goes on with `//` or is one that names a storage. */
export function schemeOf (text: string): string | undefined {
  return /^(?:[a-z]+:\/\/|(?:memory|file|rediss?|postgres(?:ql)?):)/i.exec(text)?.[0]
}

/** What an error says of a text in place of a URL. A password may be anywhere in it, so no more than the scheme is shown. */
export function describeUrl (text: string): string {
  if (text === '') return 'an empty string'
  const scheme = schemeOf(text)
  if (scheme === undefined) return 'a string that is not a URL'
  return `"${scheme}${text === scheme ? '' : '…'}"`
}

/** What an error says of the value of an option, which may be a URL that was meant for another one. */
export function describeValue (value: unknown): string {
  if (typeof value === 'number') return String(value)
  if (typeof value !== 'string') return describeType(value)
  if (HARMLESS.test(value)) return `"${value}"`
  return schemeOf(value) === undefined ? 'a string' : describeUrl(value)
}
