import { spawnSync } from 'node:child_process'

/** What tests start beside Node. */
export const serverPrograms = ['redis-server', 'valkey-server']

export function isInstalled (program: string): boolean {
  return spawnSync(program, ['--version']).status === 0
}

/** Where a program is in a package of another name. */
const packages: Record<string, string> = { 'redis-cli': 'redis-tools' }

/** Says what to do about programs that are not there. */
export function installation (...programs: string[]): string {
  const names = programs.join(' and ')
  return `The tests need ${names}: install ${programs.length > 1 ? 'them' : 'it'} first, on Debian 13 for instance with ` +
    `"sudo apt-get install ${programs.map((program) => packages[program] ?? program).join(' ')}"; as root "npm test" does it by itself.`
}
