// Runs before the tests: they start redis-server processes of their own and need the program.
import { spawnSync } from 'node:child_process'

if (!isInstalled()) {
  if (process.getuid?.() === 0) {
    run('apt-get', ['update'])
    run('apt-get', ['install', '-y', '--no-install-recommends', 'redis-server'])
  }
  if (!isInstalled()) {
    console.error('The tests need redis-server: install it first, for instance with "sudo apt-get install redis-server".')
    process.exit(1)
  }
}

function isInstalled () {
  return spawnSync('redis-server', ['--version']).status === 0
}

function run (command, args) {
  spawnSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } })
}
