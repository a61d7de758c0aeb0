import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { shellEnvironment } from './node-process.js'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))

/** Where packages come from may be said in the environment. */
const npmEnvironment = { ...shellEnvironment, ...Object.fromEntries(Object.entries(process.env).filter(([name]) => /^npm_config_/i.test(name))) }
const npm = async (cwd: string, ...args: string[]) =>
  (await run('npm', [...args, '--no-audit', '--no-fund', '--prefer-offline'], { cwd, env: npmEnvironment })).stdout

/** A user's package, in which ours is installed as from a registry. */
export interface UserPackage {
  directory: string
  /** the files of our package */
  shipped: string[]
  /** Writes a file, in a folder of its own if its path has one. */
  write: (path: string, content: string) => Promise<string>
}

/** @param packages that are installed beside ours, with their versions */
export async function installPackage (t: Test, packages: string[]): Promise<UserPackage> {
  // Outside of the repository: nothing is found there that is not installed there.
  const directory = await mkdtemp(join(tmpdir(), 'botas-user-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  const [{ filename, files }] = JSON.parse(await npm(root, 'pack', '--ignore-scripts', '--json', '--pack-destination', directory))
  await writeFile(join(directory, 'package.json'), '{ "private": true, "type": "module" }')
  await npm(directory, 'install', join(directory, filename), ...packages)
  return {
    directory,
    shipped: files.map(({ path }: { path: string }) => path),
    write: async (path, content) => {
      const file = join(directory, path)
      await mkdir(dirname(file), { recursive: true })
      await writeFile(file, content)
      return file
    }
  }
}
