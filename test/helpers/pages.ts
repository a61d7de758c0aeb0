import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { shellEnvironment } from './node-process.js'

const run = promisify(execFile)

/** Every page for users, by its path in the repository. */
export const pages = new Map(['README.md', 'example/README.md', 'lib/state/README.md', 'lib/document/README.md', 'lib/storage/README.md', 'lib/storage/redis/README.md', 'lib/storage/postgres/README.md', 'lib/storage/blob/README.md', 'lib/storage/cosmos/README.md', 'lib/turn/README.md', 'lib/inspector/README.md', 'test/bench/README.md']
  .map((path) => [path, readFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), 'utf8')]))

/** The README, as it stands in the repository. */
export const readme = pages.get('README.md') as string

/** The fenced blocks of all pages by the name that follows their language, which readers do not see; or by the language. */
export const snippets = new Map<string, string>()
for (const [path, page] of pages) {
  for (const [, language, name = language, text] of page.matchAll(/^```(\w+)(?: (\S+))?\n([^]*?)^```$/gm) as Iterable<[string, string, string | undefined, string]>) {
    if (snippets.has(name)) throw new Error(`two blocks have the name "${name}", one of them in ${path}`)
    snippets.set(name, text)
  }
}

/** A block by its name. */
export function snippet (name: string): string {
  const text = snippets.get(name)
  if (text === undefined) throw new Error(`no page has a block "${name}"`)
  return text
}

/** Runs a program in a directory of its own and gives what it prints. */
export async function output (t: Test, program: string, files: Record<string, string> = {}, ...args: string[]): Promise<string> {
  const directory = t.testdir({ ...files, 'program.mjs': program })
  const { stdout } = await run(process.execPath, [...args, join(directory, 'program.mjs')], { cwd: directory, env: shellEnvironment })
  return stdout
}

/** What is said in the blocks. */
export const activity = { type: 'message', text: 'Hi', channelId: 'test', recipient: { id: 'bot' }, conversation: { id: 'c' }, from: { id: 'u' } }

/** A program around a part of one, with what the text around it in the README takes for granted. */
export function bot ({ before = '', routes = '', after = '' }: { before?: string, routes?: string, after?: string }): string {
  return `
    import { randomUUID } from 'node:crypto'
    import Fastify from 'fastify'
    import botasState from 'fastify-botas-state'
    const app = Fastify({ forceCloseConnections: true })
    const register = () => app.register(botasState)
    const stored = async (kind, id) => (await app.botasState.storage.read([\`test/bot/\${kind}/\${id}\`]))[\`test/bot/\${kind}/\${id}\`]
    const say = (body = ${JSON.stringify(activity)}) => app.inject({ method: 'POST', url: '/api/messages', payload: body })
    async function show (...values) { for (const value of values) console.log(JSON.stringify(await value)) }
    ${before}
    ${routes}
    await app.ready()
    ${after}
    await app.close()
  `
}

/** Statements of a handler. */
export const handler = (name: string): string => `
  await register()
  app.post('/api/messages', async (request, reply) => {
    const { conversation, user, temp } = request.state
    ${snippet(name)}
    return {}
  })`
