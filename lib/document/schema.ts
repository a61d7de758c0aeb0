import type { StandardSchemaV1 } from '@standard-schema/spec'
import { FST_BOTAS_STATE_INVALID_DOCUMENT, FST_BOTAS_STATE_INVALID_OPTION } from '../errors.js'
import { describeThrown, describeType } from './describe-type.js'
import { type Document, type StateDocument, objectOf } from './document.js'
import { describeIssues } from './issues.js'

/**
 * Checks a document. What the schema makes of it, such as defaults, is not used.
 *
 * @param problem what an error says of the document that does not fit
 * @throws FST_BOTAS_STATE_INVALID_DOCUMENT naming paths, and no values
 */
export function assertFits (document: Document, schema: StandardSchemaV1, documentKey: string, problem: string): void {
  const told = toldOf(schema, objectOf(document), document)
  if (told === undefined) return
  const { issues, failure } = told
  throw new FST_BOTAS_STATE_INVALID_DOCUMENT(documentKey, failure === undefined ? `${problem}: ${issues}` : `could not be checked: its schema ${failure}`)
}

/**
 * What an error says where a document does not fit, or cannot be checked.
 *
 * @param object the document, for the schema, which may change it
 */
function toldOf (schema: StandardSchemaV1, object: StateDocument, document: Document): { issues?: string, failure?: string } | undefined {
  try {
    const result: unknown = schema['~standard'].validate(object)
    // zod returns a promise also where a check throws: https://github.com/colinhacks/zod/blob/main/packages/zod/src/v4/classic/schemas.ts
    if (isIgnoredPromise(result)) return { failure: PROMISED }
    if (typeof result !== 'object' || result === null) return { failure: `returned ${describeType(result)} in place of a result` }
    const { issues } = result as { issues?: unknown }
    // Some make their messages only when they are read.
    return issues ? { issues: describeIssues(issues, objectOf(document)) } : undefined
  } catch (error) {
    // The error's own message may quote values.
    return { failure: `threw ${describeThrown(error)}` }
  }
}

/**
 * Refuses a schema that is known to be asynchronous: one that is so for an empty document.
 *
 * @param option that it is given by
 * @throws FST_BOTAS_STATE_INVALID_OPTION
 */
export function assertSynchronous (schema: StandardSchemaV1, option: string): void {
  let result: unknown
  try {
    result = schema['~standard'].validate({})
  } catch {
    // It may well expect more.
    return
  }
  if (isIgnoredPromise(result)) throw new FST_BOTAS_STATE_INVALID_OPTION(`the option "${option}" must be a synchronous schema: this one ${PROMISED}`)
}

const PROMISED = 'returned a promise: its checks must be synchronous, and must not throw'

/** Whether it is a promise. Nobody waits for what that comes to. */
function isIgnoredPromise (value: unknown): value is PromiseLike<unknown> {
  if (typeof (value as { then?: unknown } | null | undefined)?.then !== 'function') return false
  const promise = value as PromiseLike<unknown>
  promise.then(undefined, () => {})
  return true
}
