import { createHash } from 'node:crypto'
import { opendir, readFile, readdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { FST_BOTAS_STATE_CORRUPT_DOCUMENT } from '../../errors.js'
import type { Hold } from '../document-store.js'
import { ifThere } from './if-there.js'

/** The directory, in that of the storage, of the activities that were handled; `=` keeps it apart from every document. */
export const HANDLED = '=handled'

/** What is kept of the reply to an activity. */
interface Mark {
  /** in milliseconds since 1970 */
  readonly expires: number
  readonly reply: string
}

/** The file of an activity, as a path in the directory of the storage: neither key nor id are readable in it. */
export function markName ({ key, activity }: Hold): string {
  return join(HANDLED, `${beginningOf(key)}${digest(String(activity?.id))}.json`)
}

/** The files of all activities beside a document, as such paths. */
export async function markNames (directory: string, key: string): Promise<string[]> {
  const names = await ifThere(readdir(join(directory, HANDLED))) ?? []
  return names.filter((name) => name.startsWith(beginningOf(key))).map((name) => join(HANDLED, name))
}

function beginningOf (key: string): string {
  return `${digest(key)}-`
}

function digest (text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

export function markOf (reply: string, seconds: number): Buffer {
  return Buffer.from(JSON.stringify({ expires: Date.now() + seconds * 1000, reply } satisfies Mark))
}

/** What was kept of the reply to an activity, if it was handled and is remembered still. */
export async function keptReply (directory: string, hold: Hold): Promise<string | undefined> {
  const mark = await readMark(directory, markName(hold))
  return mark !== undefined && mark.expires > Date.now() ? mark.reply : undefined
}

/** Forgets the activities whose time has passed. */
export async function forgetHandled (directory: string): Promise<void> {
  const handled = join(directory, HANDLED)
  for await (const { name } of await ifThere(opendir(handled)) ?? []) {
    const mark = await readMark(handled, name).catch(() => undefined)
    if (mark !== undefined && mark.expires <= Date.now()) await ifThere(unlink(join(handled, name)))
  }
}

async function readMark (directory: string, name: string): Promise<Mark | undefined> {
  const text = await ifThere(readFile(join(directory, name), 'utf8'))
  try {
    return text === undefined ? undefined : JSON.parse(text)
  } catch {
    // The error of JSON.parse quotes the reply.
    throw new FST_BOTAS_STATE_CORRUPT_DOCUMENT(name, 'not JSON')
  }
}
