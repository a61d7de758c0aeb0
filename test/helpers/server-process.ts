import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { settled } from './build-fastify.js'
import { installation } from './server-programs.js'

/**
 * Starts a server program, which ends with this process, however that ends.
 *
 * @param ready what it prints when it is
 */
export async function startServer (
  program: string, args: string[], cwd: string, ready: string, user: { uid?: number, gid?: number } = {}
): Promise<ChildProcess> {
  const child = spawn(program, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'], ...user })
  await spawned(program, child)
  const guard = guardOf(child)
  child.once('exit', () => guard.kill('SIGKILL'))
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => { output += chunk })
  await settled(() => output.includes(ready) || child.exitCode !== null, 30_000)
  if (!output.includes(ready)) throw new Error(`${program} did not start: ${output}`)
  return child
}

/** Starts a server program that is stopped with the test. */
export async function startWithTest (t: Test, ...server: Parameters<typeof startServer>): Promise<ChildProcess> {
  const child = await startServer(...server)
  t.teardown(() => ended(child, 'SIGKILL'))
  return child
}

/** Sends a signal to a server that runs, and resolves when it is gone. */
export async function ended (child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exit = once(child, 'exit')
  child.kill(signal)
  await exit
}

/** For the files of a server. Removed after the server in it: a test tears down in reverse. */
export function serverDirectory (t: Test, owner: { uid?: number, gid?: number } = {}): string {
  const directory = mkdtempSync(join(tmpdir(), 'botas-server-'))
  if (owner.uid !== undefined && owner.gid !== undefined) chownSync(directory, owner.uid, owner.gid)
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** Resolves when a program runs, and says what to do where it is not installed. */
export async function spawned (program: string, child: ChildProcess): Promise<void> {
  try {
    await once(child, 'spawn')
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === 'ENOENT' ? new Error(installation(program)) : error
  }
}

/** Kills a process also where the test is broken off without a word, by SIGKILL for instance: then its input ends. */
function guardOf ({ pid }: ChildProcess): ChildProcess {
  return spawn('sh', ['-c', `read line; kill -9 ${pid}`], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
}
