import type { StandardSchemaV1 } from '@standard-schema/spec'
import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'

/** A schema of TypeBox, which has no Standard Schema of its own, as one. */
export function standardSchemaOf (type: TSchema): StandardSchemaV1 {
  const validator = Compile(type)
  return {
    '~standard': {
      version: 1,
      vendor: 'typebox',
      validate: (value) => validator.Check(value)
        ? { value }
        : { issues: validator.Errors(value).map(({ instancePath, message }) => ({ message, path: instancePath.split('/').slice(1) })) }
    }
  }
}
