import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { shellEnvironment } from '../helpers/node-process.js'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))

/** Runs a script as a user's, in a process of its own that knows nothing of the test runner. */
async function node (script: string, ...args: string[]): Promise<string> {
  const { stdout, stderr } = await run(process.execPath, [...args, '-e', script], { cwd: root, env: shellEnvironment })
  t.equal(stderr, '')
  return stdout.trim()
}

t.test('the main entry exports what the README names, and loads none of the optional packages', async (t) => {
  const output = await node(`
    import * as entry from 'fastify-botas-state'
    import { createRequire } from 'node:module'
    const loaded = Object.keys(createRequire(import.meta.url).cache).filter((path) => /node_modules.(ioredis|pg|@azure)/.test(path))
    console.log(JSON.stringify([Object.keys(entry).sort(), entry.default === entry.botasState, loaded]))
  `, '--input-type=module')
  t.strictSame(JSON.parse(output), [
    ['FileStorage', 'MemoryStorage', 'activityId', 'activityIdentity', 'botasState', 'checkDocuments', 'conversationKey', 'default', 'encrypted', 'errorCodes', 'userKey'], true, []
  ])
})

t.test('each storage that needs a package has an entry', async (t) => {
  for (const [entry, name] of Object.entries({ redis: 'RedisStorage', postgres: 'PostgresStorage', blob: 'BlobStorage', cosmos: 'CosmosDbStorage' })) {
    t.equal(await node(`console.log(Object.keys(await import("fastify-botas-state/${entry}")).join())`, '--input-type=module'), name)
  }
})

t.test('the inspector is an entry of its own, and the page is part of the package', async (t) => {
  t.equal(await node(`
    import Fastify from 'fastify'
    import botasState from 'fastify-botas-state'
    import inspector, * as entry from 'fastify-botas-state/inspector'
    const app = Fastify()
    app.register(botasState, { storage: 'memory:' })
    app.register(inspector)
    const statuses = await Promise.all(['', '/page/app.js', '/page/lit-html/directives/repeat.js'].map(async (path) => (await app.inject('/inspector' + path)).statusCode))
    console.log(Object.keys(entry).sort().join(), statuses.join())
  `, '--input-type=module'), 'default,inspector 200,200,200')
})

t.test('a CommonJS user requires and registers it', async (t) => {
  const output = await node(`
    const Fastify = require('fastify')
    const { botasState, MemoryStorage } = require('fastify-botas-state')
    const { RedisStorage } = require('fastify-botas-state/redis')
    const app = Fastify()
    app.register(botasState, { storage: new MemoryStorage() })
    app.register(async (scope) => {
      scope.get('/', async (request) => { request.state.temp.set('n', 1); return request.state.temp.toJSON() })
    })
    app.inject('/').then((reply) => { console.log(reply.body, typeof RedisStorage); return app.close() })
  `, '--no-warnings')
  t.equal(output, '{"n":1} function')
})
