/** A JSON text, cut where it is too long to be shown. */
export interface ShownText {
  text: string
  /** How many characters it has. */
  length: number
}

/** How much is kept of a value that a turn changed, in characters. */
const MAX_KEPT = 10_000
/** How much is kept of a name. */
const MAX_NAME = 200

/** What is kept of a text. */
export function shortened (text: string, max = MAX_KEPT): ShownText {
  return { text: copyOf(text.slice(0, max)), length: text.length }
}

/** What is shown of a name. */
export function shortenedName (name: string): string {
  return name.length <= MAX_NAME ? copyOf(name) : `${copyOf(name.slice(0, MAX_NAME))}…`
}

/** A slice, which any string may be, retains its parent string. */
export function copyOf (text: string): string {
  return Buffer.from(text).toString()
}
