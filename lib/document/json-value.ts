import { types } from 'node:util'
import { FST_BOTAS_STATE_NOT_SERIALIZABLE } from '../errors.js'

/**
 * The JSON text of a value, `undefined` for `undefined`. Dates become ISO 8601 strings, binary becomes Base64.
 *
 * @param key names the value, or the document that it is, in the error, which says nothing of its content
 * @param scope where the key is one of a scope
 * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE where JSON would lose it or cannot hold it
 */
export function encodeValue (value: unknown, key: string, scope?: string): string | undefined {
  if (value === undefined) return undefined
  let refused: string | undefined
  try {
    if (isPlain(value, 0)) return encodePlain(value)
    return JSON.stringify(value, function (this: Record<string, unknown>, name, member) {
      // What toJSON made of it does not tell a Buffer or an invalid date.
      const original = this[name]
      if (isBinary(original)) return base64(original)
      refused = refusal(original) ?? refusal(member) ?? refusalOfHollow(member)
      if (refused !== undefined) throw new TypeError(refused)
      return member
    })
  } catch (error) {
    const cycle = error instanceof TypeError && error.message.includes('circular')
    throw new FST_BOTAS_STATE_NOT_SERIALIZABLE(placeOf(key, scope), refused ??
      (cycle ? 'a cycle' : error instanceof RangeError ? 'too deep a nesting' : 'an object that fails to turn into JSON'))
  }
}

/** The JSON text of a value that JSON holds as it is. */
export function encodePlain (value: unknown): string | undefined {
  // Fast path: most values are counters.
  return typeof value === 'number' ? String(value) : JSON.stringify(value)
}

/** The JSON text of a stored value, even one that `encodeValue` would refuse; `undefined` if it has none. */
export function encodeStored (value: unknown): string | undefined {
  try {
    return encodeValue(value, '')
  } catch {
    return encodeLeniently(value)
  }
}

function encodeLeniently (value: unknown): string | undefined {
  try {
    return JSON.stringify(value)
  } catch {
    // A BigInt or a cycle: treated as not stored.
  }
}

/** Sets an own member whatever its name is: a plain assignment to `__proto__` would not. */
export function setMember (object: Record<string, unknown>, name: string, value: unknown): void {
  if (name !== '__proto__') object[name] = value
  else Object.defineProperty(object, name, { value, enumerable: true, configurable: true, writable: true })
}

/** How an error names a value in a scope, or a whole document. */
export function placeOf (key: string, scope?: string): string {
  return scope === undefined ? `the document "${key}"` : `"${key}" in the ${scope} state`
}

/** How deep `isPlain` looks; a cycle ends there as well. */
const MAX_PLAIN_DEPTH = 100

/** Whether JSON.stringify loses nothing of a value, so that no replacer is needed, which is much slower. */
function isPlain (value: unknown, depth: number): boolean {
  switch (typeof value) {
    case 'string':
    case 'boolean':
    case 'undefined': return true
    case 'number': return Number.isFinite(value)
    case 'object': return value === null || (depth < MAX_PLAIN_DEPTH && isPlainObject(value, depth))
    default: return false
  }
}

function isPlainObject (value: object, depth: number): boolean {
  const prototype = Object.getPrototypeOf(value)
  if (prototype === Array.prototype) {
    for (const item of value as unknown[]) if (!isPlain(item, depth + 1)) return false
  } else if (prototype !== Object.prototype) return false
  else {
    for (const name in value) if (!isPlain((value as Record<string, unknown>)[name], depth + 1)) return false
  }
  return !('toJSON' in value)
}

function isBinary (value: unknown): value is ArrayBufferView | ArrayBufferLike {
  return ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value)
}

function base64 (value: ArrayBufferView | ArrayBufferLike): string {
  const bytes = ArrayBuffer.isView(value)
    ? Buffer.from(value.buffer, value.byteOffset, value.byteLength)
    : Buffer.from(value)
  return bytes.toString('base64')
}

/** Why JSON cannot hold a value; JSON.stringify itself silently drops most of these. */
function refusal (value: unknown): string | undefined {
  switch (typeof value) {
    case 'bigint': return 'a BigInt'
    case 'function': return 'a function'
    case 'symbol': return 'a symbol'
    case 'number': return Number.isFinite(value) ? undefined : `the number ${value}`
    case 'object': return value === null ? undefined : refusalOfObject(value)
  }
}

function refusalOfObject (value: object): string | undefined {
  if (hasPlainPrototype(value)) return undefined
  if (types.isMap(value)) return 'a Map'
  if (types.isSet(value)) return 'a Set'
  if (types.isPromise(value)) return 'a Promise (is an await missing?)'
  if (types.isWeakMap(value) || types.isWeakSet(value)) return 'a weak collection'
  if (types.isRegExp(value)) return 'a RegExp'
  if (types.isNativeError(value)) return 'an Error'
  if (types.isGeneratorObject(value)) return 'a generator'
  if (types.isBigIntObject(value)) return 'a BigInt'
  if (types.isSymbolObject(value)) return 'a symbol'
  if (types.isNumberObject(value)) return refusal(Number(value))
  if (types.isDate(value) && Number.isNaN(value.getTime())) return 'an invalid Date'
}

/** Why JSON, which sees enumerable properties only, would store an object as `{}` whatever it holds. */
function refusalOfHollow (value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null || hasPlainPrototype(value) || types.isBoxedPrimitive(value)) return undefined
  if (Object.keys(value).length > 0) return undefined
  if ('next' in value) return 'an iterator'
  return `an instance of ${className(value)}, which has no enumerable properties of its own`
}

/** Whether this is an array, or an object without a class, which may be of another realm or, like `request.query`, have a bare prototype. */
export function hasPlainPrototype (value: object): boolean {
  const prototype = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null || Array.isArray(value)
}

function className (value: object): string {
  const { constructor } = Object.getPrototypeOf(value)
  const name: unknown = typeof constructor === 'function' ? constructor.name : undefined
  return typeof name === 'string' && name !== '' ? name : 'an unnamed class'
}
