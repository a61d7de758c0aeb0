import type { StandardSchemaV1 } from '@standard-schema/spec'
import type { TSchema } from 'typebox'
import { Value } from 'typebox/value'

/** A schema of TypeBox, which has no Standard Schema of its own, as one: as in `lib/document/README.md`. */
export const standardSchemaOf = (schema: TSchema): StandardSchemaV1 => ({
  '~standard': {
    version: 1,
    vendor: 'typebox',
    validate: (value) => Value.Check(schema, value)
      ? { value }
      : { issues: Value.Errors(schema, value).map(({ message, instancePath }) => ({ message, path: namesIn(instancePath) })) }
  }
})

/** The names in a JSON Pointer. */
const namesIn = (pointer: string) => pointer.split('/').slice(1).map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~'))
