import { describeType } from '../document/describe-type.js'
import { FST_BOTAS_STATE_INVALID_PATH } from '../errors.js'

const SCOPES = ['conversation', 'user', 'temp'] as const

/** What a path leads to. */
export interface ParsedPath {
  scope: typeof SCOPES[number]
  key: string
}

/**
 * Takes a path apart: `scope.key`, the scope in any case, or a bare `key`, which is in `temp`.
 *
 * @throws FST_BOTAS_STATE_INVALID_PATH
 */
export function parsePath (path: unknown): ParsedPath {
  if (typeof path !== 'string') throw new FST_BOTAS_STATE_INVALID_PATH(`a path must be a string, got ${describeType(path)}`)
  const parts = path.split('.')
  if (parts.includes('')) throw invalid(path, 'has an empty part')
  if (parts.length > 2) throw invalid(path, 'has more than one dot; expected "scope.key" or "key"')
  if (parts.length === 1) return { scope: 'temp', key: path }
  const [name, key] = parts as [string, string]
  const scope = SCOPES.find((scope) => scope === name.toLowerCase())
  if (scope === undefined) throw invalid(path, 'names an unknown scope: there are "conversation", "user" and "temp"')
  return { scope, key }
}

function invalid (path: string, problem: string): Error {
  return new FST_BOTAS_STATE_INVALID_PATH(`the path "${path}" ${problem}`)
}
