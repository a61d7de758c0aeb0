import { open, opendir, readFile, rename, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { asideIn, isOurs } from './aside.js'
import { ifThere } from './if-there.js'

/** A file that is written aside comes into its place; or, without one, what is in the place goes. Names are those in a directory. */
export type SaveStep = readonly [aside: string | undefined, name: string]

/** Ends the name of a file that lists the steps of a save which is decided: who finds it does them. */
const DECIDED = '.save'

/**
 * Does the steps of one save: all or none, also where the process is killed meanwhile. Where the system refuses a step itself,
 * those before it are done.
 *
 * @param isSynced whether the list must be on disk before the first step
 */
export async function doSteps (directory: string, steps: SaveStep[], isSynced: boolean): Promise<void> {
  if (steps.length < 2) return doEach(directory, steps)
  const list = asideIn(directory, DECIDED)
  try {
    await writeList(list, steps, isSynced)
    await doEach(directory, steps)
  } finally {
    await ifThere(unlink(list))
  }
}

/** Does what an earlier process had decided, and was killed before it was done. Call this before anything is read. */
export async function doLeftSteps (directory: string): Promise<void> {
  for await (const { name } of await ifThere(opendir(directory)) ?? []) {
    if (!name.startsWith('=') || !name.endsWith(DECIDED) || isOurs(name)) continue
    const list = join(directory, name)
    const steps = stepsIn(await readFile(list, 'utf8'))
    await doEach(directory, steps)
    await ifThere(unlink(list))
  }
}

/** What was not written to its end was not decided. */
function stepsIn (text: string): SaveStep[] {
  try {
    return (JSON.parse(text) as Array<[aside: string | null, name: string]>).map(([aside, name]) => [aside ?? undefined, name])
  } catch {
    return []
  }
}

async function writeList (path: string, steps: SaveStep[], isSynced: boolean): Promise<void> {
  const file = await open(path, 'wx')
  try {
    await file.writeFile(JSON.stringify(steps))
    if (isSynced) await file.sync()
  } finally {
    await file.close()
  }
}

/** One after another: what comes last, such as a mark, is not there without the rest. A file that is not aside any more is in its place. */
async function doEach (directory: string, steps: SaveStep[]): Promise<void> {
  for (const [aside, name] of steps) {
    const path = join(directory, name)
    if (aside === undefined) {
      await ifThere(unlink(path))
      continue
    }
    await ifThere(rename(join(directory, aside), path))
  }
}
