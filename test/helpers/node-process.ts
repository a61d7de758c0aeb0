import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'

const { PATH, HOME } = process.env
/** The environment of a person's shell: nothing of the test runner's. */
export const shellEnvironment = { PATH, HOME }

export interface NodeProcess {
  child: ChildProcess
  /** the lines it prints */
  lines: AsyncIterator<string>
  /** what it wrote to standard error, and how it ended */
  exited: Promise<{ code: number | null, signal: NodeJS.Signals | null, errors: string }>
}

/** Starts a script of `test/processes` on the built package, as a user's process. With the test it ends at the latest. */
export function startProcess (t: Test, script: string, ...args: string[]): NodeProcess {
  const path = fileURLToPath(new URL(`../processes/${script}`, import.meta.url))
  const child = spawn(process.execPath, ['--expose-gc', path, ...args], { env: shellEnvironment, stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => child.kill('SIGKILL'))
  let errors = ''
  child.stderr.on('data', (chunk) => { errors += chunk })
  return {
    child,
    lines: createInterface(child.stdout)[Symbol.asyncIterator](),
    exited: new Promise((resolve) => child.once('close', (code, signal) => resolve({ code, signal, errors })))
  }
}
