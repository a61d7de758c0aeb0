import { isObject } from './describe-type.js'
import type { StateDocument } from './document.js'
import { Quotations, isIdentifier } from './quotations.js'

/** How many issues an error names. */
const MAX_ISSUES = 5
/** How long a path or a message may be. */
const MAX_LENGTH = 200

/**
 * What an error says of the issues of a schema: their paths, and what the schema says of each, unless that may quote a value.
 *
 * @param issues anything: not every schema keeps to the contract
 * @param document that was checked
 */
export function describeIssues (issues: unknown, document: StateDocument): string {
  const all: unknown[] = Array.isArray(issues) && issues.length > 0 ? [...issues] : [{}]
  const quotations = new Quotations(document)
  const told = all.slice(0, MAX_ISSUES).map((issue) => describeIssue(issue, document, quotations))
  const more = all.length - told.length
  return told.join('; ') + (more > 0 ? `; and ${more} more` : '')
}

function describeIssue (issue: unknown, document: StateDocument, quotations: Quotations): string {
  const { path, message } = (issue ?? {}) as { path?: unknown, message?: unknown }
  const { place, value } = placeIn(document, Array.isArray(path) ? [...path] : [], quotations)
  if (typeof message !== 'string') return `${place} does not fit`
  // What is cut off is told to nobody, and need not be compared.
  const told = shortened(message)
  return quotations.areIn(told, value) ? `${place} does not fit` : `${place}: ${told}`
}

/**
 * What a path leads to, and how an error names that. A transform may lead on into what it made of a text: the path ends at the text then.
 */
function placeIn (document: StateDocument, path: unknown[], quotations: Quotations): { place: string, value: unknown } {
  const names: string[] = []
  let value: unknown = document
  for (const segment of path) {
    if (!isObject(value) && !Array.isArray(value)) break
    const key = (isObject(segment) ? segment.key : segment) as PropertyKey
    names.push(isShown(key, value, document, quotations) ? quotedIfOdd(String(key)) : '*')
    value = Object.hasOwn(value, key) ? (value as Record<PropertyKey, unknown>)[key] : undefined
  }
  return { place: names.length === 0 ? 'the document' : shortened(names.join('.')), value }
}

/** The names of members are no secret; those in their values may be. One that is not there may be a part of a value. */
function isShown (key: PropertyKey, parent: object, document: StateDocument, quotations: Quotations): boolean {
  if (isIdentifier(String(key))) return true
  if (parent !== document && !Array.isArray(parent)) return false
  return Object.hasOwn(parent, key) || !quotations.areIn(String(key), undefined)
}

function quotedIfOdd (name: string): string {
  return /^[\w$-]+$/.test(name) ? name : JSON.stringify(name)
}

function shortened (text: string): string {
  return text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH)}…` : text
}
