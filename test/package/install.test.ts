import { execFile } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { installPackage } from '../helpers/installed-package.js'
import { shellEnvironment } from '../helpers/node-process.js'
import { snippet } from '../helpers/pages.js'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))
const TSC = join(root, 'node_modules/typescript/bin/tsc')

const { devDependencies } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
const versions = ['fastify', '@fastify/autoload', '@types/node'].map((name) => `${name}@${devDependencies[name]}`)
const { directory: user, shipped, write } = await installPackage(t, versions)

/** Runs a user's script and gives what it prints. */
async function output (t: Test, path: string, content: string): Promise<string> {
  const { stdout, stderr } = await run(process.execPath, ['--no-warnings', await write(path, content)], { cwd: user, env: shellEnvironment })
  t.equal(stderr, '')
  return stdout.trim()
}

t.test('the package has what was compiled, its sources, README, LICENSE and CHANGELOG, and nothing else', async (t) => {
  const others = shipped.filter((path) => !/^(dist|lib)\//.test(path))
  t.strictSame(others.sort(), ['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json'])
  const sources = shipped.filter((path) => path.startsWith('lib/') && !/\/(?:README\.md|tsconfig\.json)$/.test(path))
  const compiled = sources.flatMap((path) => path.startsWith('lib/inspector/page/')
    ? path.replace('lib', 'dist')
    : ['.d.ts', '.d.ts.map', '.js', '.js.map'].map((extension) => path.replace(/^lib(.*)\.ts$/, `dist$1${extension}`)))
  t.strictSame(shipped.filter((path) => path.startsWith('dist/')).sort(), compiled.sort())
})

t.test('source maps lead to sources that are in the package', async (t) => {
  for (const path of shipped.filter((path) => path.endsWith('.map'))) {
    const { sources } = JSON.parse(await readFile(join(user, 'node_modules/fastify-botas-state', path), 'utf8'))
    t.strictSame(sources.map((source: string) => shipped.includes(posix.join(posix.dirname(path), source))), [true], path)
  }
})

const conversation = `
  app.post('/', async ({ state }) => ({ n: state.conversation.update('n', (n = 0) => n + 1) }))
  const payload = { type: 'message', channelId: 'c', recipient: { id: 'b' }, conversation: { id: 'c' } }
  const say = async () => (await app.inject({ method: 'POST', url: '/', payload })).body
  console.log(await say(), await say())
  await app.close()`

t.test('an ES module imports it', async (t) => {
  t.equal(await output(t, 'bot.mjs', `
    import Fastify from 'fastify'
    import botasState, { MemoryStorage } from 'fastify-botas-state'
    const app = Fastify()
    await app.register(botasState, { storage: new MemoryStorage() })
    ${conversation}
  `), '{"n":1} {"n":2}')
})

t.test('a CommonJS module requires it', async (t) => {
  t.equal(await output(t, 'bot.cjs', `
    const Fastify = require('fastify')
    const { botasState, MemoryStorage } = require('fastify-botas-state')
    async function main () {
      const app = Fastify()
      await app.register(botasState, { storage: new MemoryStorage() })
      ${conversation}
    }
    main()
  `), '{"n":1} {"n":2}')
})

const program = `
import Fastify from 'fastify'
import botasState, { type BotasStateOptions, FileStorage, botasState as named, errorCodes } from 'fastify-botas-state'

declare module 'fastify-botas-state' {
  interface ConversationState { turnCount: number }
}

const options: BotasStateOptions = { storage: new FileStorage('./state'), flush: 'onSend', identify: async () => undefined }
const app = Fastify()
app.register(botasState, options)
app.register(named, { storage: 'memory:', loadTimeout: 1000 })
app.register(botasState, new FileStorage('./state'))
app.post('/', async ({ state }) => {
  const turn: number = state.conversation.update('turnCount', (n) => (n ?? 0) + 1)
  const path: number | undefined = state.getValue('conversation.turnCount')
  // @ts-expect-error a number is declared
  state.conversation.set('turnCount', 'one')
  return { turn, path, stats: app.botasState.stats.openTurns }
})
// @ts-expect-error there is no such moment
app.register(botasState, { flush: 'later' })
app.setErrorHandler((error) => error instanceof errorCodes.FST_BOTAS_STATE_LOAD_FAILED ? { code: error.code } : {})
`

/** What the compiler has to say against a user's project. */
const complaints = async (folder: string): Promise<string> =>
  (await run(process.execPath, [TSC, '-p', join(user, folder)]).catch((error) => error)).stdout

const strict = { target: 'ES2023', strict: true, outDir: 'built', types: ['node'], skipLibCheck: false }

t.test('strict TypeScript compiles a bot, be its package of ES modules or CommonJS', async (t) => {
  for (const type of ['module', 'commonjs']) {
    await write(`typescript/${type}/package.json`, JSON.stringify({ type }))
    await write(`typescript/${type}/bot.ts`, program)
  }
  await write('typescript/tsconfig.json', JSON.stringify({
    compilerOptions: { ...strict, module: 'NodeNext' }
  }))
  t.equal(await complaints('typescript'), '')
  t.match(await readFile(join(user, 'typescript/built/module/bot.js'), 'utf8'), /^import .* from 'fastify-botas-state'/m)
  t.match(await readFile(join(user, 'typescript/built/commonjs/bot.js'), 'utf8'), /require\("fastify-botas-state"\)/)
})

t.test('strict TypeScript checks a bot that a bundler is to pack', async (t) => {
  await write('bundled/bot.ts', program)
  await write('bundled/tsconfig.json', JSON.stringify({ compilerOptions: { ...strict, module: 'ESNext', moduleResolution: 'bundler' } }))
  t.equal(await complaints('bundled'), '')
})

t.test('without ioredis the Redis entry can be imported, and a URL says what to install, and in which option it is', async (t) => {
  const message = (option: string) => `the option "${option}" must be used with the package ioredis, got a Redis URL without it: npm install ioredis`
  t.equal(await output(t, 'redis.mjs', `
    import Fastify from 'fastify'
    import botasState from 'fastify-botas-state'
    import { RedisStorage } from 'fastify-botas-state/redis'
    try { new RedisStorage('redis://localhost') } catch ({ code, message }) { console.log(code, message) }
    await Fastify().register(botasState, { storage: 'redis://localhost' }).ready().catch(({ message }) => console.log(message))
  `), `FST_BOTAS_STATE_INVALID_OPTION ${message('connection')}\n${message('storage')}`)
})

t.test('without their packages the other entries can be imported and type-checked, and a Postgres URL says what to install', async (t) => {
  const message = (option: string) => `the option "${option}" must be used with the package pg, got a Postgres URL without it: npm install pg`
  t.equal(await output(t, 'others.mjs', `
    import Fastify from 'fastify'
    import botasState from 'fastify-botas-state'
    import { BlobStorage } from 'fastify-botas-state/blob'
    import { CosmosDbStorage } from 'fastify-botas-state/cosmos'
    import { PostgresStorage } from 'fastify-botas-state/postgres'
    try { new PostgresStorage('postgres://localhost') } catch ({ message }) { console.log(message) }
    await Fastify().register(botasState, { storage: 'postgres://localhost' }).ready().catch(({ message }) => console.log(message))
    for (const Storage of [BlobStorage, CosmosDbStorage]) try { new Storage({}) } catch ({ message }) { console.log(message) }
  `), [message('connection'), message('storage'),
    'the option "container" must be a ContainerClient of @azure/storage-blob, got an object',
    'the option "container" must be a Container of @azure/cosmos, got an object'].join('\n'))
  await write('others/bot.ts', `
    import { BlobStorage, type BlobContainer } from 'fastify-botas-state/blob'
    import { CosmosDbStorage, type CosmosContainer } from 'fastify-botas-state/cosmos'
    import { PostgresStorage, type PostgresPool } from 'fastify-botas-state/postgres'
    export const all = (pool: PostgresPool, blobs: BlobContainer, items: CosmosContainer) =>
      [new PostgresStorage(pool), new PostgresStorage('postgres://localhost', { table: 'a.b', ttl: 1, renew: 'load' }), new BlobStorage(blobs), new CosmosDbStorage(items)]
  `)
  await write('others/tsconfig.json', JSON.stringify({ compilerOptions: { ...strict, module: 'NodeNext' } }))
  t.equal(await complaints('others'), '')
})

t.test('an ioredis that is broken is not taken for one that is missing', async (t) => {
  await write('node_modules/ioredis/index.js', 'throw new Error("broken")')
  t.teardown(() => rm(join(user, 'node_modules/ioredis'), { recursive: true }))
  t.equal(await output(t, 'redis-broken.mjs', `
    import { RedisStorage } from 'fastify-botas-state/redis'
    try { new RedisStorage('redis://localhost') } catch ({ message }) { console.log(message) }
  `), 'broken')
})

t.test('@fastify/autoload loads it from a file that has its options, before the routes', async (t) => {
  await write('app/package.json', '{ "type": "module" }')
  await write('app/plugins/state.js', snippet('autoload'))
  await write('app/routes/bot.js', `
    export default async function (app) {
      app.post('/', async ({ state }) => ({ n: state.conversation.update('n', (n = 0) => n + 1) }))
    }
  `)
  t.equal(await output(t, 'app/main.js', `
    import { join } from 'node:path'
    import autoload from '@fastify/autoload'
    import Fastify from 'fastify'
    const app = Fastify()
    app.register(autoload, { dir: join(import.meta.dirname, 'plugins') })
    app.register(autoload, { dir: join(import.meta.dirname, 'routes') })
    ${conversation.replace(/.*\n/, '').replace(/^.*app\.post.*$/m, '')}
  `), '{"n":1} {"n":2}')
})
