import * as fs from 'node:fs'
import { mkdir, opendir, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { TextDocument } from '../../document/text-document.js'
import { FST_BOTAS_STATE_CORRUPT_DOCUMENT } from '../../errors.js'
import { asideIn, isOurs } from './aside.js'
import { ifThere } from './if-there.js'

/** Used by every turn: `node:fs/promises` is up to three times slower. */
const open = promisify(fs.open)
const fchmod = promisify(fs.fchmod)
const read = promisify(fs.read)
const writeFile = promisify(fs.writeFile)
const fsync = promisify(fs.fsync)
const close = promisify(fs.close)
const rename = promisify(fs.rename)
const stat = promisify(fs.stat)

/** Do not wait for a writer when opening a FIFO. */
const READ_ONLY = fs.constants.O_RDONLY | fs.constants.O_NONBLOCK
/** What systems say when something that is no file, a socket for instance, is opened. */
const NO_FILE = new Set<string | undefined>(['ENXIO', 'EOPNOTSUPP', 'ENODEV', 'EISDIR'])
const PERMISSIONS = 0o7777

/**
 * A file may be replaced twice within one tick of the clock by which the system stamps it, and get its old inode back: a stamp
 * tells it from a later one only where it was older than a tick when the file was read. In milliseconds, some ticks of any
 * kernel.
 */
const TICK = 100

/** The document in a file, `undefined` if there is none. What is not a regular file counts as corrupt. */
export async function readDocument (path: string, key: string): Promise<TextDocument | undefined> {
  try {
    return await readFile(path, key)
  } catch (error) {
    if (error instanceof FST_BOTAS_STATE_CORRUPT_DOCUMENT) return TextDocument.stored(error, key)
    throw error
  }
}

/** fstatSync does not block: the system has looked that up to open the file. */
async function readFile (path: string, key: string): Promise<TextDocument | undefined> {
  const file = await ifThere(open(path, READ_ONLY).catch((error: NodeJS.ErrnoException) => {
    throw NO_FILE.has(error.code) ? notAFile(key) : error
  }))
  if (file === undefined) return undefined
  try {
    const stats = fs.fstatSync(file, { bigint: true })
    if (!stats.isFile()) throw notAFile(key)
    const version: Version = { stats, isDistinct: isDistinct(stats) }
    return TextDocument.stored(await readAll(file, Number(stats.size)), key, version)
  } finally {
    await close(file)
  }
}

/** By what a document that was read is told from later ones. */
interface Version {
  readonly stats: fs.BigIntStats
  /** whether a later file has other stats */
  readonly isDistinct: boolean
}

function isDistinct ({ ctimeNs }: fs.BigIntStats): boolean {
  return Date.now() - Number(ctimeNs / 1_000_000n) > TICK
}

/** Whether a document that was loaded is certainly stored still, by what the system says of its file. */
export async function isStored (path: string, loaded: TextDocument | undefined): Promise<boolean> {
  const version = loaded?.version as Version | undefined
  if (version?.isDistinct !== true) return false
  const before = version.stats
  const now = await ifThere(stat(path, { bigint: true }))
  return now !== undefined && now.ino === before.ino && now.ctimeNs === before.ctimeNs && now.size === before.size
}

/** The permissions of the file of a document, if that is one. */
export function permissionsOf (document: TextDocument | undefined): number | undefined {
  const version = document?.version as Version | undefined
  return version && Number(version.stats.mode) & PERMISSIONS
}

/**
 * The permissions of a file, if there is one.
 *
 * @throws FST_BOTAS_STATE_CORRUPT_DOCUMENT where what is there is no regular file
 */
export async function permissionsAt (path: string, key: string): Promise<number | undefined> {
  const stats = await ifThere(stat(path))
  if (stats?.isFile() === false) throw notAFile(key)
  return stats && stats.mode & PERMISSIONS
}

function notAFile (key: string): Error {
  return new FST_BOTAS_STATE_CORRUPT_DOCUMENT(key, 'not a regular file')
}

async function readAll (file: number, size: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(size)
  let length = 0
  let bytesRead: number
  do {
    ({ bytesRead } = await read(file, bytes, length, size - length, null))
    length += bytesRead
  } while (bytesRead > 0 && length < size)
  return bytes.subarray(0, length)
}

/** When the document in a file was saved, in milliseconds since 1970: every save renames a new file into place. */
export async function savedAt (path: string): Promise<number | undefined> {
  const stats = await ifThere(stat(path))
  return stats?.isFile() === true ? stats.mtimeMs : undefined
}

/**
 * Puts a document in the place of a file: written aside, synced and renamed, so that the file is always complete.
 *
 * @param mode of the file that is replaced; without one the system decides
 */
export async function writeDocument (path: string, document: TextDocument, mode: number | undefined): Promise<void> {
  await writeAside(dirname(path), bytesOf(document), mode, (aside) => rename(aside, path))
}

/** Writes a document beside its place. Gives the name of the file. */
export async function writeDocumentAside (directory: string, document: TextDocument, mode: number | undefined): Promise<string> {
  return basename(await writeAside(directory, bytesOf(document), mode))
}

/**
 * Writes a file that is complete, and synced, before it comes into its place.
 *
 * @param next what is done with it; the file goes where that fails
 */
export async function writeAside (
  directory: string, bytes: Buffer, mode?: number, next?: (aside: string) => Promise<void>
): Promise<string> {
  const aside = asideIn(directory)
  try {
    await writeSynced(await create(aside, mode), bytes, mode)
    await next?.(aside)
    return aside
  } catch (error) {
    await removeAside(aside)
    throw error
  }
}

/** The first error is the one to report, whatever this clean-up does. */
export async function removeAside (aside: string): Promise<void> {
  await ifThere(unlink(aside)).catch(() => {})
}

/** Encode before the first await: the garbage collector copies a string that lives across file system calls. */
function bytesOf ({ content }: TextDocument): Buffer {
  return typeof content === 'string' ? Buffer.from(content) : content
}

/** Opens a new file, and makes its directory where that is not there yet, or no longer. */
async function create (path: string, mode: number | undefined): Promise<number> {
  const file = await ifThere(open(path, 'wx', mode))
  if (file !== undefined) return file
  await mkdir(dirname(path), { recursive: true })
  return open(path, 'wx', mode)
}

/** The umask took permissions from the new file: until it has them back, it has fewer than the one that it replaces. */
async function writeSynced (file: number, content: Buffer, mode: number | undefined): Promise<void> {
  try {
    await writeFile(file, content)
    if (mode !== undefined && (fs.fstatSync(file).mode & PERMISSIONS) !== mode) await fchmod(file, mode)
    await fsync(file)
  } finally {
    await close(file)
  }
}

/** Removes the temporary files of earlier processes. */
export async function removeLeftovers (directory: string): Promise<void> {
  try {
    for await (const { name } of await opendir(directory)) {
      if (/^=.+\.tmp$/.test(name) && !isOurs(name)) await unlink(join(directory, name))
    }
  } catch {
    // What cannot be removed is no reason to fail: it is never read.
  }
}
