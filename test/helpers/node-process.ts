import { type ChildProcess, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
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
  return start(t, ['--expose-gc', fileURLToPath(new URL(`../processes/${script}`, import.meta.url)), ...args])
}

/** Starts a program that a test has written, in a directory of the test's. */
export function startScript (t: Test, program: string, directory: string): NodeProcess {
  const path = join(directory, 'program.mjs')
  writeFileSync(path, program)
  return start(t, [path])
}

function start (t: Test, args: string[]): NodeProcess {
  const child = spawn(process.execPath, args, { env: shellEnvironment, stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => child.kill('SIGKILL'))
  let errors = ''
  child.stderr.on('data', (chunk) => { errors += chunk })
  return {
    child,
    lines: createInterface(child.stdout)[Symbol.asyncIterator](),
    exited: new Promise((resolve) => child.once('close', (code, signal) => resolve({ code, signal, errors })))
  }
}
