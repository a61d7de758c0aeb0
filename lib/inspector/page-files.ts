import { readFileSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { extname } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

/** A file that the page is made of. */
export interface PageFile {
  readonly type: string
  readonly content: Buffer
}

/** What the page uses of lit-html. It is loaded as it is published: there is nothing to build. */
const LIT_FILES = ['lit-html.js', 'directive.js', 'directive-helpers.js', 'directives/repeat.js']

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml'
}

/**
 * What the browser may do with the page: nothing comes from elsewhere, nor is anything sent there; and no text becomes markup, as
 * `trusted-types` leaves that to the templates of lit-html.
 */
export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'",
  "frame-ancestors 'none'", "require-trusted-types-for 'script'", 'trusted-types lit-html'
].join('; ')

/** The files of the page, by their names. */
export function pageFiles (): Map<string, PageFile> {
  const page = new URL('page/', import.meta.url)
  const own = readdirSync(page).filter((name) => extname(name) in TYPES)
  return new Map([
    ...own.map((name) => [name, file(new URL(name, page))] as const),
    ...LIT_FILES.map((name) => [`lit-html/${name}`, file(new URL(name, litHtml()))] as const)
  ])
}

function file (url: URL): PageFile {
  return { type: TYPES[extname(url.pathname)] as string, content: readFileSync(fileURLToPath(url)) }
}

/** The directory of the package, whose main file for Node is in one below. */
function litHtml (): string {
  const { href } = pathToFileURL(createRequire(import.meta.url).resolve('lit-html'))
  return href.slice(0, href.lastIndexOf('/lit-html/') + '/lit-html/'.length)
}
