import type { StandardSchemaV1 } from '@standard-schema/spec'
import type { StateDocument } from './document.js'
import { isIdentifier, quotes } from './quotations.js'

/** How many issues an error names. */
const MAX_ISSUES = 5
/** How long a path or a message may be. */
const MAX_LENGTH = 200

/**
 * What an error says of the issues of a schema: their paths, and what the schema says of each, unless that may quote a value.
 *
 * @param document that was checked
 */
export function describeIssues (issues: readonly StandardSchemaV1.Issue[], document: StateDocument): string {
  const told = issues.slice(0, MAX_ISSUES).map((issue) => describeIssue(issue, document))
  const more = issues.length - told.length
  return told.join('; ') + (more > 0 ? `; and ${more} more` : '')
}

function describeIssue ({ path = [], message }: StandardSchemaV1.Issue, document: StateDocument): string {
  const { place, value } = placeIn(document, path.map((segment) => typeof segment === 'object' ? segment.key : segment))
  return typeof message !== 'string' || quotes(message, value, document) ? `${place} does not fit` : `${place}: ${shortened(message)}`
}

/** The value at a path, and how an error names it. The names of members are no secret; those in their values may be. */
function placeIn (document: StateDocument, keys: PropertyKey[]): { place: string, value: unknown } {
  let value: unknown = document
  const names = keys.map((key, depth) => {
    const isShown = depth === 0 || Array.isArray(value) || isIdentifier(String(key))
    value = (value as Record<PropertyKey, unknown> | null | undefined)?.[key]
    return isShown ? quotedIfOdd(String(key)) : '*'
  })
  return { place: names.length === 0 ? 'the document' : shortened(names.join('.')), value }
}

function quotedIfOdd (name: string): string {
  return /^[\w$-]+$/.test(name) ? name : JSON.stringify(name)
}

function shortened (text: string): string {
  return text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH)}…` : text
}
