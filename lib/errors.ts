import { createError } from '@fastify/error'

/** An option of the plugin or of a storage is wrong or unknown: fix the one that the message names. 500, a TypeError. */
export const FST_BOTAS_STATE_INVALID_OPTION = createError<[problem: string]>('FST_BOTAS_STATE_INVALID_OPTION', '%s', 500, TypeError)

/** A path is not `scope.key` or `key`, a key is not a string, or a property was assigned to: use `set`. 500, a TypeError. */
export const FST_BOTAS_STATE_INVALID_PATH = createError<[problem: string]>('FST_BOTAS_STATE_INVALID_PATH', '%s', 500, TypeError)

/** A value was set or changed to something that JSON cannot hold: store the data that it is made of. 500, a TypeError. */
export const FST_BOTAS_STATE_NOT_SERIALIZABLE = createError<[place: string, reason: string]>(
  'FST_BOTAS_STATE_NOT_SERIALIZABLE', '%s cannot be stored as JSON: it holds %s', 500, TypeError)

/** An id is malformed: not a string, too long, or with control characters or half a surrogate pair. 400. */
export const FST_BOTAS_STATE_INVALID_ID = createError<[field: string, reason: string]>(
  'FST_BOTAS_STATE_INVALID_ID', '"%s" is not a valid id: %s', 400)

/** A persisted scope was used although the request does not say whose it is, or changed though its activity was handled before: see the
 * message. 400. */
export const FST_BOTAS_STATE_NOT_A_TURN = createError<[scope: string, reason: string]>(
  'FST_BOTAS_STATE_NOT_A_TURN', 'no %s state: %s', 400)

/** A persisted scope was used before the state was loaded: use a later hook, or let `identify` answer in onRequest. 500. */
export const FST_BOTAS_STATE_NOT_LOADED = createError<[scope: string]>(
  'FST_BOTAS_STATE_NOT_LOADED',
  'the %s state is not loaded yet: use it in a preValidation hook added after this plugin, or later; ' +
  'or return the identity from "identify" in onRequest', 500)

/** State was changed after the turn was over: await all work in the handler, `waitUntil` it, or use `fastify.botasState.run`. 500. */
export const FST_BOTAS_STATE_TURN_ENDED = createError<[scope: string]>(
  'FST_BOTAS_STATE_TURN_ENDED',
  'the turn is over, so this change of its %s state would be lost; keep the turn open with request.state.waitUntil, or use fastify.botasState.run', 500)

/**
 * State was changed after the turn had failed: nothing of it is saved. `cause` is what made it fail, where that is known.
 * Use `fastify.botasState.run` to store something all the same. 500.
 */
export const FST_BOTAS_STATE_FAILED = createError<[scope: string, options: { cause: unknown }]>(
  'FST_BOTAS_STATE_FAILED',
  'the turn has failed, so this change of its %s state would not be saved; to store something all the same, use fastify.botasState.run', 500)

/** The storage failed or was too slow while a turn was loaded: `cause` is its error. The handler did not run. 500. */
export const FST_BOTAS_STATE_LOAD_FAILED = createError<[keys: string, options: { cause: unknown }]>(
  'FST_BOTAS_STATE_LOAD_FAILED', 'the state could not be loaded: %s', 500)

/** A stored document is not a JSON object. It is not modified: fix it, or delete it with `clear()`. 500. */
export const FST_BOTAS_STATE_CORRUPT_DOCUMENT = createError<[key: string, reason: string]>(
  'FST_BOTAS_STATE_CORRUPT_DOCUMENT', 'the stored document "%s" is %s; it was not modified', 500)

/**
 * A document does not fit the schema in the option `documents`, or could not be upgraded: the message names the paths and no value. What
 * is stored is not modified: fix the document, the schema or the upgrade. 500.
 */
export const FST_BOTAS_STATE_INVALID_DOCUMENT = createError<[key: string, problem: string]>(
  'FST_BOTAS_STATE_INVALID_DOCUMENT', 'the document "%s" %s; what is stored was not modified', 500)

/** A stored document is of a later version than this code knows. It is not modified: deploy the code that knows it. 500. */
export const FST_BOTAS_STATE_NEWER_DOCUMENT = createError<[key: string, version: number, known: number]>(
  'FST_BOTAS_STATE_NEWER_DOCUMENT', 'the stored document "%s" has version %s, and this code knows version %s at most; it was not modified: deploy newer code', 500)

/**
 * A stored value is not encrypted with any of the keys of `encrypted`, was changed, or was moved from elsewhere. It is not modified: add
 * the key that is missing, or restore the value. 500.
 */
export const FST_BOTAS_STATE_CANNOT_DECRYPT = createError<[place: string, reason: string]>(
  'FST_BOTAS_STATE_CANNOT_DECRYPT', '%s cannot be decrypted: %s; it was not modified', 500)

/** The storage failed or was too slow while a turn was saved: `cause` is its error, the message tells which keys were saved. 500. */
export const FST_BOTAS_STATE_SAVE_FAILED = createError<[saved: string, unsaved: string, options: { cause: unknown }]>(
  'FST_BOTAS_STATE_SAVE_FAILED', 'the state could not be saved; saved: %s; not known to be saved: %s', 500)

/**
 * Another turn of the conversation is at work, or another delivery of the activity; or the turn has waited for too long, or too
 * many turns wait already: try again later. 409 where the turn is not to wait, otherwise 503 with `Retry-After`.
 */
export const FST_BOTAS_STATE_BUSY = createError<[reason: string]>('FST_BOTAS_STATE_BUSY', '%s', 503)

/** A later turn of the conversation took the place of this one: nothing of it is saved. 409. */
export const FST_BOTAS_STATE_REPLACED = createError('FST_BOTAS_STATE_REPLACED',
  'a later turn of the conversation has replaced this one: nothing of it is saved', 409)

/** The inspector was asked by something else than a browser on this machine: open it at http://localhost. 403. */
export const FST_BOTAS_STATE_NOT_LOCAL = createError<[reason: string]>('FST_BOTAS_STATE_NOT_LOCAL',
  'the inspector answers this machine only: this request is refused, for %s; open it at http://localhost', 403)
