import { types } from 'node:util'
import { shortened, shortenedName } from './shown-text.js'

/** What is told of a value that was thrown. */
export interface Thrown {
  /** Its code, or the name of an error of a kind that says something. */
  code: string | undefined
  message: string | undefined
}

/** How much of a message is kept, in characters. */
const MAX_MESSAGE = 1000

/** What is thrown may be anything. No getter is called: it may throw, and whoever handles the error is to be the first who asks. */
export function thrownBy (cause: unknown): Thrown {
  const code = [dataOf(cause, 'code'), dataOf(cause, 'name')].find((text): text is string => isText(text) && text !== 'Error')
  const texts = [isText(cause) ? cause : dataOf(cause, 'message'), dataOf(dataOf(cause, 'cause'), 'message')].filter(isText)
  return {
    code: code && shortenedName(code),
    message: texts.length === 0 ? undefined : shortened(texts.join(': '), MAX_MESSAGE).text
  }
}

/** A property, which the object may have of its prototypes. */
function dataOf (value: unknown, name: string): unknown {
  if (!types.isProxy(value) && value instanceof DOMException) return nativeOf(value, name)
  for (let object = value; typeof object === 'object' && object !== null && !types.isProxy(object); object = Object.getPrototypeOf(object)) {
    const property = Object.getOwnPropertyDescriptor(object, name)
    if (property !== undefined) return property.value
  }
}

/** What a fetch or a timeout throws has getters, which are Node's own. */
function nativeOf (value: DOMException, name: string): unknown {
  return name === 'name' || name === 'message' ? Object.getOwnPropertyDescriptor(DOMException.prototype, name)?.get?.call(value) : undefined
}

function isText (value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}
