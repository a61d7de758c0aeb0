import { readlink, realpath } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { ifThere } from './if-there.js'

/** An absolute path without symbolic links, also of what is not there yet: it is made where this leads. */
export async function realPath (path: string): Promise<string> {
  const found = await ifThere(realpath(path))
  if (found !== undefined) return found
  const parent = await realPath(dirname(path))
  const missing = join(parent, basename(path))
  // realpath fails for a link to what is not there.
  const target = await readlink(missing).catch(() => undefined)
  return target === undefined ? missing : realPath(resolve(parent, target))
}
