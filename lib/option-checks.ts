import { FST_BOTAS_STATE_INVALID_OPTION } from './errors.js'
import { kindOf } from './kind-of.js'

/** Enough for any count; 68 years in seconds. */
const MAX_WHOLE_NUMBER = 2 ** 31 - 1

/**
 * Refuses options that nobody would heed: a misspelt `storage` would be a bot that forgets everything.
 *
 * @param others names that somebody else looks at
 * @throws FST_BOTAS_STATE_INVALID_OPTION
 */
export function assertKnownOptions (options: object, names: string[], others: string[] = []): void {
  if (typeof options !== 'object' || options === null) throw new FST_BOTAS_STATE_INVALID_OPTION('options', 'an object', kindOf(options))
  for (const [name, value] of Object.entries(options)) {
    if (!names.includes(name) && !others.includes(name)) {
      throw new FST_BOTAS_STATE_INVALID_OPTION(name, `one of ${names.join(', ')}`, kindOf(value))
    }
  }
}

/**
 * Takes an option that is left out, too.
 *
 * @param unit what is counted
 * @throws FST_BOTAS_STATE_INVALID_OPTION
 */
export function assertWholeNumber (name: string, value: unknown, unit: string): asserts value is number | undefined {
  if (value === undefined || (Number.isInteger(value) && (value as number) >= 1 && (value as number) <= MAX_WHOLE_NUMBER)) return
  throw new FST_BOTAS_STATE_INVALID_OPTION(name, `a whole number of ${unit} from 1 to ${MAX_WHOLE_NUMBER}`,
    typeof value === 'number' ? String(value) : kindOf(value))
}
