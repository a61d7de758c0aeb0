import { types } from 'node:util'

/** Whether a value is an object with named members. */
export function isObject (value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** What an error says of a value in place of the value, which is private. */
export function describeType (value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (Array.isArray(value)) return 'an array'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}

/** What an error says of what somebody's function threw, whose message, and name, may quote values. */
export function describeThrown (error: unknown): string {
  // Its traps may throw, too.
  if (types.isProxy(error)) return 'an object'
  const native = [TypeError, RangeError, SyntaxError, ReferenceError, URIError].find((kind) => error instanceof kind)
  if (native !== undefined) return `a ${native.name}`
  return error instanceof Error ? 'an error' : describeType(error)
}
