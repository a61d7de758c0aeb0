import { encodeStored, encodeValue, setMember } from './json-value.js'

/**
 * A value at one moment, to detect later changes in place: scalars as they are, plain containers flattened into a list,
 * anything else, such as a Buffer or an object with `toJSON`, as JSON text.
 */
export type Snapshot = Scalar | Listed | Encoded

type Scalar = string | number | boolean | null | undefined
/** Names and scalars in the order of the JSON text, between the marks of the containers that they are in. */
type Listed = Array<Scalar | symbol>
/** What is stored though JSON cannot hold it, too deep a nesting for instance, is told by itself. */
type Encoded = { readonly text: string | undefined, readonly itself?: unknown }

const OBJECT = Symbol('{')
const ARRAY = Symbol('[')
const END = Symbol('end')

/** How deep values are listed; a cycle ends there as well. */
const MAX_DEPTH = 500

/**
 * The snapshot of a value that is to be stored.
 *
 * @param name names the value in the error, which says nothing of its content
 * @param scope that the value is in
 * @throws FST_BOTAS_STATE_NOT_SERIALIZABLE where JSON would lose the value or cannot hold it
 */
export function snapshotOf (value: unknown, name: string, scope: string): Snapshot {
  if (value === undefined) return undefined
  return listed(value, false) ?? { text: encodeValue(value, name, scope) }
}

/** The snapshot of what is stored. It may hold an Infinity: the 1e400 of another language. */
export function snapshotOfStored (value: unknown): Snapshot {
  if (value === undefined) return undefined
  return listed(value, true) ?? encodedStored(value)
}

function encodedStored (value: unknown): Encoded {
  const text = encodeStored(value)
  return text === undefined ? { text, itself: value } : { text }
}

/** Whether a value is, in JSON, what it was when the snapshot was taken. */
export function isAs (value: unknown, snapshot: Snapshot): boolean {
  if (isEncoded(snapshot)) return 'itself' in snapshot ? value === snapshot.itself : encodeStored(value) === snapshot.text
  try {
    if (!Array.isArray(snapshot)) return value === snapshot || isDateOf(value, snapshot)
    return follow(value, snapshot, 0) === snapshot.length
  } catch {
    // A getter that throws is not what was listed.
    return false
  }
}

/** Whether the value is told by its JSON text. */
export function isEncoded (snapshot: Snapshot): snapshot is Encoded {
  return typeof snapshot === 'object' && snapshot !== null && !Array.isArray(snapshot)
}

/** A new value, as JSON would give it back. */
export function valueOf (snapshot: Snapshot): unknown {
  if (isEncoded(snapshot)) return snapshot.text === undefined ? undefined : JSON.parse(snapshot.text)
  return Array.isArray(snapshot) ? rebuild(snapshot) : snapshot
}

/** Nothing where the value has to be encoded. */
function listed (value: unknown, isStored: boolean): Exclude<Snapshot, Encoded | undefined> | undefined {
  if (typeof value === 'string' || typeof value === 'boolean' || value === null) return value
  if (typeof value === 'number') return isStored || Number.isFinite(value) ? value : undefined
  if (typeof value !== 'object') return undefined
  const list: Listed = []
  try {
    if (!append(value, list, isStored, 0)) return undefined
  } catch {
    // encodeValue reports the getter's error.
    return undefined
  }
  // A date is a string by then.
  return list.length === 1 ? list[0] as string : list
}

function append (value: unknown, list: Listed, isStored: boolean, depth: number): boolean {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      list.push(value)
      return true
    case 'number':
      list.push(value)
      return isStored || Number.isFinite(value)
    // In an array.
    case 'undefined':
      list.push(null)
      return true
    case 'object':
      if (value !== null) return depth < MAX_DEPTH && appendObject(value, list, isStored, depth + 1)
      list.push(null)
      return true
    default: return false
  }
}

function appendObject (value: object, list: Listed, isStored: boolean, depth: number): boolean {
  switch (markOf(value)) {
    case ARRAY:
      list.push(ARRAY)
      for (const item of value as unknown[]) if (!append(item, list, isStored, depth)) return false
      list.push(END)
      return true
    case OBJECT:
      list.push(OBJECT)
      for (const name in value) {
        const member = (value as Record<string, unknown>)[name]
        if (member === undefined) continue
        list.push(name)
        if (!append(member, list, isStored, depth)) return false
      }
      list.push(END)
      return true
    case DATE:
      list.push((value as Date).toISOString())
      return true
    default: return false
  }
}

/** The position after a value in a list, or NOWHERE if the list has another value there. */
function follow (value: unknown, list: Listed, at: number): number {
  const expected = list[at]
  if (typeof value !== 'object' || value === null) return (value ?? null) === expected ? at + 1 : NOWHERE
  const mark = markOf(value)
  if (mark === DATE) return (value as Date).toISOString() === expected ? at + 1 : NOWHERE
  if (mark !== expected) return NOWHERE
  let next = at + 1
  if (mark === ARRAY) {
    for (const item of value as unknown[]) {
      next = follow(item, list, next)
      if (next < 0) return NOWHERE
    }
  } else {
    for (const name in value) {
      const member = (value as Record<string, unknown>)[name]
      if (member === undefined) continue
      next = list[next] === name ? follow(member, list, next + 1) : NOWHERE
      if (next < 0) return NOWHERE
    }
  }
  return list[next] === END ? next + 1 : NOWHERE
}

const NOWHERE = -1
const DATE = Symbol('date')

/** What an object is listed as, if it can be. */
function markOf (value: object): symbol | undefined {
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype === Date.prototype) return Number.isNaN((value as Date).getTime()) ? undefined : DATE
  if ('toJSON' in value) return undefined
  if (prototype === Array.prototype) return ARRAY
  return prototype === Object.prototype || prototype === null ? OBJECT : undefined
}

function isDateOf (value: unknown, snapshot: Snapshot): boolean {
  return typeof value === 'object' && value !== null && markOf(value) === DATE && (value as Date).toISOString() === snapshot
}

function rebuild (list: Listed): unknown {
  let at = 0
  const next = (): unknown => {
    const item = list[at++]
    if (item !== ARRAY && item !== OBJECT) return item
    const container: Record<string, unknown> | unknown[] = item === ARRAY ? [] : {}
    while (list[at] !== END) {
      if (Array.isArray(container)) container.push(next())
      else setMember(container, list[at++] as string, next())
    }
    at++
    return container
  }
  return next()
}
