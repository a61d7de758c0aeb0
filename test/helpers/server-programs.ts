import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'

/** What tests start beside Node. */
export const serverPrograms = ['redis-server', 'valkey-server', 'postgres', 'pgbouncer', 'chromium']

/** Where Debian has the programs of each version of Postgres, which are in nobody's PATH. */
const POSTGRES = '/usr/lib/postgresql'

/** How a program is started: by its path, or by its name, where the system has to find it. */
export function programPath (program: string): string {
  const versions = program === 'postgres' || program === 'initdb' ? versionsOf(POSTGRES) : []
  return versions.map((version) => join(POSTGRES, version, 'bin', program)).find(runs) ?? program
}

export function isInstalled (program: string): boolean {
  return runs(programPath(program))
}

function runs (path: string): boolean {
  return spawnSync(path, ['--version']).status === 0
}

/** The newest first. */
function versionsOf (directory: string): string[] {
  try {
    return readdirSync(directory).sort((one, other) => Number(other) - Number(one))
  } catch {
    return []
  }
}

/** Where a program is in a package of another name. */
const packages: Record<string, string> = { 'redis-cli': 'redis-tools', postgres: 'postgresql' }

/** The package of Debian in which a program is. */
export function packageOf (program: string): string {
  return packages[program] ?? program
}

/** Says what to do about programs that are not there. */
export function installation (...programs: string[]): string {
  const names = programs.join(' and ')
  return `The tests need ${names}: install ${programs.length > 1 ? 'them' : 'it'} first, on Debian 13 for instance with ` +
    `"sudo apt-get install ${programs.map(packageOf).join(' ')}"; as root "npm test" does it by itself.`
}
