import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The README, as it stands in the repository. */
export const readme = readFileSync(fileURLToPath(new URL('../../README.md', import.meta.url)), 'utf8')

/** The fenced blocks of the README by the name that follows their language, which readers do not see; or by the language. */
export const snippets = new Map<string, string>()
for (const [, language, name = language, text] of readme.matchAll(/^```(\w+)(?: (\S+))?\n([^]*?)^```$/gm) as Iterable<[string, string, string | undefined, string]>) {
  if (snippets.has(name)) throw new Error(`two blocks of the README have the name "${name}"`)
  snippets.set(name, text)
}

/** A block by its name. */
export function snippet (name: string): string {
  const text = snippets.get(name)
  if (text === undefined) throw new Error(`the README has no block "${name}"`)
  return text
}
