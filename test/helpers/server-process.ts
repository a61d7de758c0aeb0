import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
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
  await settled(() => output.includes(ready) || child.exitCode !== null, 10_000)
  if (!output.includes(ready)) throw new Error(`${program} did not start: ${output}`)
  return child
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
