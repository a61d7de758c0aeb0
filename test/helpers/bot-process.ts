import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { shellEnvironment } from './node-process.js'

export interface BotProcess {
  url: string
  /** what it printed so far */
  output: () => string
  /** Sends a signal and gives the exit code. */
  stop: (signal?: NodeJS.Signals) => Promise<number | null>
}

/** Starts an example as its users do, on a free port, in a directory of its own. */
export async function startExample (t: Test, path: string, cwd: string, env: Record<string, string> = {}): Promise<BotProcess> {
  const child = spawnExample(path, cwd, { PORT: '0', HOST: '127.0.0.1', ...env })
  const exited = once(child, 'exit')
  // It may be saving still, in the directory that is removed next.
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exited
  })
  let output = ''
  child.stderr?.on('data', (chunk) => { output += chunk })
  child.stdout?.on('data', (chunk) => { output += chunk })
  while (!output.includes('curl') && child.exitCode === null) await Promise.race([once(child.stdout as never, 'data'), once(child, 'exit')])
  const url = /http:\/\/\S+/.exec(output)?.[0]
  if (url === undefined) throw new Error(`the example did not start: ${output}`)
  return {
    url,
    output: () => output,
    stop: async (signal = 'SIGTERM') => {
      child.kill(signal)
      return (await exited)[0]
    }
  }
}

export function spawnExample (path: string, cwd: string, env: Record<string, string>): ChildProcess {
  const main = fileURLToPath(new URL(`../../example/${path}`, import.meta.url))
  const typescript = { TSX_TSCONFIG_PATH: fileURLToPath(new URL('../../tsconfig.json', import.meta.url)) }
  return spawn(process.execPath, [`--import=${import.meta.resolve('tsx')}`, main], { cwd, env: { ...shellEnvironment, ...typescript, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
}
