import createError from '@fastify/error'

/** An option of the plugin or of a storage is not what it must be. 500, a TypeError. */
export const FST_BOTAS_STATE_INVALID_OPTION = createError<[option: string, expected: string, got: string]>(
  'FST_BOTAS_STATE_INVALID_OPTION', 'the option "%s" must be %s, got %s', 500, TypeError)

/** A path is not `scope.key` or `key`, or a key is no string. 500, a TypeError. */
export const FST_BOTAS_STATE_INVALID_PATH = createError<[path: string, reason: string]>(
  'FST_BOTAS_STATE_INVALID_PATH', 'the path %s %s', 500, TypeError)

/** A value was set or changed to something that JSON cannot hold. 500, a TypeError. */
export const FST_BOTAS_STATE_NOT_SERIALIZABLE = createError<[place: string, reason: string]>(
  'FST_BOTAS_STATE_NOT_SERIALIZABLE', '%s cannot be stored as JSON: it holds %s', 500, TypeError)

/** An id that names a turn is present but is not a string that can be part of a key. 400. */
export const FST_BOTAS_STATE_INVALID_ID = createError<[field: string, reason: string]>(
  'FST_BOTAS_STATE_INVALID_ID', '"%s" is no usable id: %s', 400)

/** A persisted scope was used although the request does not say whose it is. 400. */
export const FST_BOTAS_STATE_NOT_A_TURN = createError<[scope: string, missing: string]>(
  'FST_BOTAS_STATE_NOT_A_TURN', 'there is no %s state here, for the turn does not say whose it is; missing: %s', 400)

/** A persisted scope was used before the state was loaded. 500. */
export const FST_BOTAS_STATE_NOT_LOADED = createError<[scope: string]>(
  'FST_BOTAS_STATE_NOT_LOADED',
  'the %s state is not loaded yet: it is there from the preValidation hook on, once this plugin\'s own has run, ' +
  'or from onRequest on where "identify" can tell the turn without the body', 500)

/** State was written after the turn was over, when nothing can be saved any more. 500. */
export const FST_BOTAS_STATE_TURN_ENDED = createError<[scope: string]>(
  'FST_BOTAS_STATE_TURN_ENDED', 'the turn is over, a change of its %s state would be lost', 500)

/** The storage failed or was too slow while a turn was loaded; `cause` is its error. 500. */
export const FST_BOTAS_STATE_LOAD_FAILED = createError<[keys: string, options: { cause: unknown }]>(
  'FST_BOTAS_STATE_LOAD_FAILED', 'the state could not be loaded: %s', 500)

/** A stored document is no JSON object. It is left as it is. 500. */
export const FST_BOTAS_STATE_CORRUPT_DOCUMENT = createError<[key: string, reason: string]>(
  'FST_BOTAS_STATE_CORRUPT_DOCUMENT', 'the stored document "%s" is %s; it was left as it is', 500)

/** The storage failed or was too slow while a turn was saved; `cause` is its error. 500. */
export const FST_BOTAS_STATE_SAVE_FAILED = createError<[saved: string, unsaved: string, options: { cause: unknown }]>(
  'FST_BOTAS_STATE_SAVE_FAILED', 'the state could not be saved; saved: %s; not known to be saved: %s', 500)

/**
 * Every error of this plugin by its code, for `error instanceof errorCodes.FST_BOTAS_STATE_…`, in the manner of
 * Fastify's own `errorCodes`. Each instance has `code`, `statusCode` and, where another error is behind it, `cause`.
 */
export const errorCodes = {
  FST_BOTAS_STATE_INVALID_OPTION,
  FST_BOTAS_STATE_INVALID_PATH,
  FST_BOTAS_STATE_NOT_SERIALIZABLE,
  FST_BOTAS_STATE_INVALID_ID,
  FST_BOTAS_STATE_NOT_A_TURN,
  FST_BOTAS_STATE_NOT_LOADED,
  FST_BOTAS_STATE_TURN_ENDED,
  FST_BOTAS_STATE_LOAD_FAILED,
  FST_BOTAS_STATE_CORRUPT_DOCUMENT,
  FST_BOTAS_STATE_SAVE_FAILED
}

/** What an error says of a value in place of the value, which is private. */
export function kindOf (value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (Array.isArray(value)) return 'an array'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}
