// Runs before the tests: they start servers of their own and need the programs.
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { installation, isInstalled, packageOf, serverPrograms } from './server-programs.js'

const missing = serverPrograms.filter((program) => !isInstalled(program))
if (missing.length > 0) {
  if (process.getuid?.() === 0) {
    apt('update')
    for (const program of missing) {
      apt('install', '-y', '--no-install-recommends', packageOf(program))
      if (!isInstalled(program)) installFromBackports(program)
    }
  }
  const stillMissing = missing.filter((program) => !isInstalled(program))
  if (stillMissing.length > 0) {
    console.error(installation(...stillMissing))
    process.exit(1)
  }
}

/** Debian 12 has valkey-server in its backports only. The machine's own sources and lists stay as they are. */
function installFromBackports (program: string): void {
  const codename = run('sh', '-c', '. /etc/os-release && echo "$VERSION_CODENAME"')
  const [mirror] = apt('indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages', 'Origin: Debian', `Codename: ${codename}`).split('\n')
  if (mirror === '') return
  const directory = mkdtempSync(join(tmpdir(), 'botas-apt-'))
  const source = join(directory, 'sources.list')
  const lists = join(directory, 'lists')
  mkdirSync(join(lists, 'partial'), { recursive: true })
  // apt downloads as another user.
  chmodSync(directory, 0o755)
  writeFileSync(source, ['', '-backports'].map((suite) => 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ' +
    `${mirror} ${codename}${suite} main\n`).join(''))
  const options = [`Dir::Etc::sourcelist=${source}`, 'Dir::Etc::sourceparts=/dev/null', `Dir::State::lists=${lists}`]
    .flatMap((option) => ['-o', option])
  apt(...options, 'update')
  apt(...options, 'install', '-y', '--no-install-recommends', program)
  rmSync(directory, { recursive: true, force: true })
}

function apt (...args: string[]): string {
  return run('apt-get', ...args)
}

function run (command: string, ...args: string[]): string {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  return (spawnSync(command, args, { stdio: ['ignore', 'pipe', 'inherit'], env, encoding: 'utf8' }).stdout ?? '').trim()
}
