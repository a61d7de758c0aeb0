import { randomUUID } from 'node:crypto'
import { join } from 'node:path'

/** Begins the names of the temporary files of this process; `=` keeps them apart from every document, see fileName. */
const OURS = `=${randomUUID()}-`
let count = 0

/** A path for a file of this process that is only there for a moment. */
export function asideIn (directory: string, extension = '.tmp'): string {
  return join(directory, `${OURS}${count++}${extension}`)
}

/** Whether a temporary file is one of this process. */
export function isOurs (name: string): boolean {
  return name.startsWith(OURS)
}
