import type { StandardSchemaV1 } from '@standard-schema/spec'
import { FST_BOTAS_STATE_INVALID_DOCUMENT, FST_BOTAS_STATE_INVALID_OPTION } from '../errors.js'
import { describeThrown } from './describe-type.js'
import { type Document, objectOf } from './document.js'
import { describeIssues } from './issues.js'

/** A schema by https://standardschema.dev, and the option that it is given by. */
export interface DocumentSchema {
  readonly schema: StandardSchemaV1
  readonly option: string
}

/**
 * Checks a document. What the schema makes of it, such as defaults, is not used.
 *
 * @param problem what an error says of the document that does not fit
 * @throws FST_BOTAS_STATE_INVALID_DOCUMENT naming paths, and no values; FST_BOTAS_STATE_INVALID_OPTION for an asynchronous schema
 */
export function assertFits (document: Document, { schema, option }: DocumentSchema, documentKey: string, problem: string): void {
  let result: ReturnType<StandardSchemaV1['~standard']['validate']>
  try {
    result = schema['~standard'].validate(objectOf(document))
  } catch (error) {
    // The error's own message may quote values.
    throw new FST_BOTAS_STATE_INVALID_DOCUMENT(documentKey, `could not be checked: its schema threw ${describeThrown(error)}`)
  }
  if (isThenable(result)) throw asynchronousSchema(option, result)
  if (result.issues !== undefined) throw new FST_BOTAS_STATE_INVALID_DOCUMENT(documentKey, `${problem}: ${describeIssues(result.issues, objectOf(document))}`)
}

/**
 * Refuses a schema that is known to be asynchronous: one that is so for nothing, or for an empty document.
 *
 * @throws FST_BOTAS_STATE_INVALID_OPTION
 */
export function assertSynchronous ({ schema, option }: DocumentSchema): void {
  for (const sample of [undefined, {}]) {
    let result: unknown
    try {
      result = schema['~standard'].validate(sample)
    } catch {
      // It may well expect a document.
      continue
    }
    if (isThenable(result)) throw asynchronousSchema(option, result)
  }
}

function asynchronousSchema (option: string, result: PromiseLike<unknown>): Error {
  // Nobody waits for what it comes to.
  result.then(undefined, () => {})
  return new FST_BOTAS_STATE_INVALID_OPTION(`the option "${option}" must be a synchronous schema: this one returned a promise`)
}

function isThenable (value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function'
}
