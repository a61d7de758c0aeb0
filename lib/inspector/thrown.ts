import { shortened, shortenedName } from './shown-text.js'

/** What is told of a value that was thrown. */
export interface Thrown {
  /** Its code, or the name of an error of a kind that says something. */
  code: string | undefined
  message: string | undefined
}

/** How much of a message is kept, in characters. */
const MAX_MESSAGE = 1000

/** What is thrown may be anything, and have getters that throw. */
export function thrownBy (cause: unknown): Thrown {
  if (isText(cause)) return { code: undefined, message: shortened(cause, MAX_MESSAGE).text }
  try {
    const { code, name, message, cause: reason } = Object(cause) as { code?: unknown, name?: unknown, message?: unknown, cause?: unknown }
    const known = [code, name].find((text) => isText(text) && text !== 'Error') as string | undefined
    const texts = [message, (Object(reason) as { message?: unknown }).message].filter(isText)
    return { code: known && shortenedName(known), message: texts.length === 0 ? undefined : shortened(texts.join(': '), MAX_MESSAGE).text }
  } catch {
    return { code: undefined, message: undefined }
  }
}

function isText (value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}
