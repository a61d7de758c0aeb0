import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, readFile, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { errorCodes } from '../../lib/index.js'
import { startExample } from '../helpers/bot-process.js'
import { settled } from '../helpers/build-fastify.js'
import { freePort } from '../helpers/free-port.js'
import { shellEnvironment } from '../helpers/node-process.js'
import { bot, output, pages, readme, snippet, snippets } from '../helpers/pages.js'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))

/** Does what a "curl" command says, once somebody listens there. */
async function curl (command: string): Promise<string> {
  const [, url, name, value, body] = /^curl (\S+) -H '(\S+): (\S+)' -d '(.*)'$/.exec(command.trim()) as unknown as [string, string, string, string, string]
  let answer: string | undefined
  await settled(async () => {
    answer = await fetch(`http://${url}`, { method: 'POST', headers: { [name]: value }, body }).then((reply) => reply.text(), () => undefined)
    return answer !== undefined
  }, 20_000)
  return answer as string
}

/** Starts a bot of the README's, and gives what stops it. */
function startBot (t: Test, directory: string, script: string): (signal: NodeJS.Signals) => Promise<unknown[]> {
  const child = spawn(process.execPath, [script], { cwd: directory, env: shellEnvironment, stdio: 'inherit' })
  t.teardown(() => child.kill('SIGKILL'))
  const exited = once(child, 'exit')
  return (signal) => {
    child.kill(signal)
    return exited
  }
}

t.test('the first bot prints what it is said to, also after a restart, and a kill right after a reply loses nothing', async (t) => {
  const port = String(await freePort())
  const directory = t.testdir({ 'bot.mjs': snippet('first-bot').replace('3978', port) })
  t.equal(snippet('install'), 'npm install fastify fastify-botas-state\n')
  t.match(snippet('first-bot'), /^\/\/ bot\.mjs$/m)
  const answers: string[] = []
  for (const [times, signal] of [[2, 'SIGTERM'], [1, 'SIGINT'], [1, 'SIGTERM'], [1, 'SIGTERM'], [1, 'SIGTERM'], [1, 'SIGINT']] as const) {
    const stop = startBot(t, directory, 'bot.mjs')
    for (let n = 0; n < times; n++) answers.push(await curl(snippet('first-bot-curl').replace('3978', port)))
    t.strictSame(await stop(signal), [0, null])
  }
  const printed = snippet('first-bot-output').trim().split('\n')
  t.strictSame(answers.slice(0, printed.length), printed)
  t.equal(answers.at(-1), '{"text":"Turn #7: Hello"}')
})

t.test('the first bot in TypeScript compiles under strict, and is the same bot', async (t) => {
  const port = String(await freePort())
  const directory = t.testdir({ 'package.json': '{ "type": "module" }', 'bot.ts': snippet('first-bot-typescript').replace('3978', port) })
  // A package of its own resolves what is installed there.
  await mkdir(join(directory, 'node_modules/@types'), { recursive: true })
  for (const name of ['fastify', '@types/node']) await symlink(join(root, 'node_modules', name), join(directory, 'node_modules', name))
  await symlink(root, join(directory, 'node_modules/fastify-botas-state'))
  const options = ['--ignoreConfig', '--strict', '--module', 'nodenext', '--target', 'es2023', '--types', 'node', '--skipLibCheck']
  const { stdout } = await run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), ...options, 'bot.ts'], { cwd: directory }).catch((error) => error)
  t.equal(stdout, '')
  const stop = startBot(t, directory, 'bot.js')
  t.equal(await curl(snippet('first-bot-curl').replace('3978', port)), snippet('first-bot-output').split('\n')[0])
  t.strictSame(await stop('SIGTERM'), [0, null])
})

t.test('the counter bot takes the same message', async (t) => {
  const bot = await startExample(t, 'counter-bot/main.ts', t.testdir())
  const command = snippet('first-bot-curl').replace('localhost:3978', new URL(bot.url).host)
  t.equal(JSON.parse(await curl(command)).activities[0].text, 'Turn #1 | Your message #1: Hello')
  await bot.stop()
})

const BUILD_BOT = `
  import Fastify from 'fastify'
  import botasState from 'fastify-botas-state'
  export function buildBot (storage) {
    const app = Fastify()
    app.register(botasState, { storage })
    app.post('/api/messages', async ({ body, state }) => {
      const turn = state.conversation.update('turnCount', (n = 0) => n + 1)
      state.user.set('lastWords', body.text)
      return { text: \`Turn #\${turn}: \${body.text}\` }
    })
    return app
  }`

t.test('a bot is tested by what its user says, with node:test', async (t) => {
  const printed = await output(t, snippet('testing'), { 'bot.mjs': BUILD_BOT }, '--test', '--test-reporter=tap')
  t.match(printed, /^# pass 1$/m)
  t.match(printed, /^# fail 0$/m)
})

t.test('a bot is tested by what its user says, with vitest', async (t) => {
  const test = snippet('testing').replace("'node:test'", "'vitest'")
  const directory = t.testdir({ 'bot.mjs': BUILD_BOT, 'bot.test.mjs': test })
  const vitest = join(root, 'node_modules/vitest/vitest.mjs')
  const { stdout } = await run(process.execPath, [vitest, 'run', '--root', directory, '--reporter=json'], { env: shellEnvironment })
  t.match(JSON.parse(stdout), { numTotalTests: 1, numPassedTests: 1, success: true })
})

t.test('a bot is tested by what its user says, with tap', async (t) => {
  const test = snippet('testing').replace(/^import \{ test \} from 'node:test'.*$/m, "import t from 'tap'").replace(/^test\(/m, 't.test(')
  t.match(await output(t, test, { 'bot.mjs': BUILD_BOT }), /^# \{ total: \d+, pass: \d+ \}$/m)
})

t.test('a webhook of another kind says whose turn it is', async (t) => {
  t.equal(await output(t, bot({
    routes: `${snippet('identify')}\napp.post('/api/messages', async ({ state }) => { state.user.set('n', 1); return {} })`,
    after: `await say({ message: { chat: { id: 1 }, from: { id: 2 } } })
      await show(app.botasState.storage.read(['telegram/my-bot/users/2']), say({}).then(({ statusCode }) => statusCode))`
  })), '{"telegram/my-bot/users/2":{"n":1}}\n400\n')
  t.equal(await output(t, bot({
    routes: `${snippet('identify')}\napp.post('/api/messages', async ({ state }) => ({ posts: state.conversation.update('posts', (n = 0) => n + 1) }))`,
    after: `const post = { channel_post: { chat: { id: -100 }, sender_chat: { id: -100 } } }
      await show(say(post).then(({ json }) => json()), say(post).then(({ json }) => json()), say({ message: 'Hi' }).then(({ statusCode }) => statusCode))`
  })), '{"posts":1}\n{"posts":2}\n400\n', 'a post in a channel has no user')
})

t.test('commands are those of the package', async (t) => {
  const scriptsOf = async (folder: string) => Object.keys(JSON.parse(await readFile(join(root, folder, 'package.json'), 'utf8')).scripts)
  const [scripts, ofExamples] = await Promise.all([scriptsOf('.'), scriptsOf('example')])
  t.equal(snippet('test'), 'npm ci && npm test\nnpm run test:all\nnpx tap --disable-coverage test/turn/turn.test.ts\n')
  t.ok(existsSync(join(root, 'test/turn/turn.test.ts')))
  t.match(snippet('redis-replicas'), /^docker compose -f example\/redis\/docker-compose\.yml up -d\nPORT=3979 npm run start:redis$/m)
  t.ok(existsSync(join(root, 'example/redis/docker-compose.yml')))
  t.match(snippet('playground'), /^npx -y -p @microsoft\/m365agentsplayground agentsplayground -e http:\/\/localhost:3978\/api\/messages -c emulator$/m)
  t.match(snippet('sdk-start'), /^npm ci && cd example && npm ci\nnpm run (start:\S+)$/m)
  for (const [, script = ''] of [...pages.values()].join('').matchAll(/npm (?:ci && npm )?(?:run )?(start[:\w-]*|test[:\w]*|bench|soak)/g)) {
    t.ok(scripts.includes(script) || ofExamples.includes(script), script)
  }
})

t.test('no block of a page is left out by the tests', async (t) => {
  const files = ['package/readme', 'package/production', 'package/pages', 'package/nestjs', 'package/install', 'package/storage-pages', 'package/document-pages', 'example/readme']
  const tests = await Promise.all(files.map((name) => readFile(join(root, `test/${name}.test.ts`), 'utf8')))
  const tested = [...tests.join('').matchAll(/(?:snippet|handler|onRedis|importing)\('([\w-]+)'[,)]/g)].map(([, name]) => name)
  t.strictSame([...new Set(tested)].sort(), [...snippets.keys()].sort())
})

t.test('the table of errors has every code, with its status', async (t) => {
  const rows = [...readme.matchAll(/^\| `(FST_BOTAS_STATE_\w+)` \| (\d+) \|/gm)].map(([, code, status]) => [code, Number(status)])
  t.strictSame(rows.sort(), Object.entries(errorCodes).map(([code, CodedError]) => [code, new (CodedError as unknown as new () => { statusCode: number })().statusCode]))
})

t.test('the links of all pages lead somewhere', async (t) => {
  const anchors = (page: string) => [...page.matchAll(/^#+ (.+)$/gm)].map(([, title]) => (title as string).toLowerCase().replace(/[^\w -]/g, '').replaceAll(' ', '-'))
  for (const [path, page] of pages) {
    for (const [, target = '', anchor] of page.matchAll(/\]\((?!http)([^)#]*)(?:#([^)]+))?\)/g)) {
      const file = join(dirname(path), target)
      t.ok(existsSync(join(root, file)), `${path}: ${target}`)
      const linked = target === '' ? page : pages.get(file) ?? pages.get(join(file, 'README.md'))
      if (anchor !== undefined) t.ok(anchors(linked ?? '').includes(anchor), `${path}: ${target}#${anchor}`)
    }
  }
})
