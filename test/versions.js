// Runs all tests but those of the SDKs on every version of Node that is supported, and on the oldest and the newest Fastify 5, each in a clone of
// what is committed. Takes some minutes a version. Arguments are test files, to run these only.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const NODE_VERSIONS = ['20', '22', '24', '26']
const root = fileURLToPath(new URL('..', import.meta.url))
const { peerDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const oldestFastify = peerDependencies.fastify.replace('^', '')

const combinations = [
  ...NODE_VERSIONS.map((node) => ({ node, fastify: '5' })),
  { node: NODE_VERSIONS[0], fastify: oldestFastify },
  { node: NODE_VERSIONS.at(-1), fastify: oldestFastify }
]

const directory = mkdtempSync(join(tmpdir(), 'botas-versions-'))
const clone = join(directory, 'clone')
const quiet = { stdio: ['ignore', 'ignore', 'inherit'] }
const results = []
try {
  execFileSync('git', ['clone', '--quiet', root, clone])
  execFileSync('npm', ['ci'], { cwd: clone, ...quiet })
  execFileSync('npm', ['run', 'test:emulators'], { cwd: clone, ...quiet })
  for (const { node, fastify } of combinations) {
    execFileSync('npm', ['install', '--no-save', `fastify@${fastify}`], { cwd: clone, ...quiet })
    const env = { ...process.env, PATH: [binOf(node), process.env.PATH].join(delimiter) }
    const run = (command, ...args) => spawnSync(command, args, { cwd: clone, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: Infinity })
    const build = run('npm', 'run', 'build')
    const { status, stdout } = build.status === 0 ? run('npx', 'tap', '--disable-coverage', '--exclude=test/example/**', ...process.argv.slice(2)) : build
    results.push({
      node: run('node', '--version').stdout.trim(),
      fastify: JSON.parse(readFileSync(join(clone, 'node_modules/fastify/package.json'), 'utf8')).version,
      result: status === 0 ? 'passed' : `failed (${status})`,
      assertions: /# \{ total: (\d+)/.exec(stdout)?.[1]
    })
    console.log(JSON.stringify(results.at(-1)))
    if (status !== 0) console.log(stdout.split('\n').filter((line) => !/^\s*(ok|# Subtest)\b/.test(line)).join('\n'))
  }
} finally {
  rmSync(directory, { recursive: true, force: true })
}
console.table(results)
process.exitCode = results.every(({ result }) => result === 'passed') ? 0 : 1

/** Where the `node` of a version is, once it is installed: npm has its binaries, a package for each platform. */
function binOf (version) {
  const name = `node-${process.platform}-${process.arch}`
  const prefix = join(directory, `node-${version}`)
  execFileSync('npm', ['install', '--prefix', prefix, `${name}@${version}`], quiet)
  return join(prefix, 'node_modules', name, 'bin')
}
