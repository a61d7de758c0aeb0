import { randomUUID } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Browser, type BrowserContextOptions, type Page, chromium } from 'playwright-core'
import type { Test } from 'tap'

const root = new URL('../..', import.meta.url)

/** Debian's Chromium, which ends with the test. Run as root it has no sandbox. */
export async function openBrowser (t: Test): Promise<Browser> {
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] })
  t.teardown(() => browser.close())
  return browser
}

/** A page of the inspector. What goes wrong in it, or is refused by its policy, fails the test. */
export async function openPage (t: Test, browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<Page> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options })
  const page = await context.newPage()
  const problems: string[] = []
  page.on('pageerror', ({ message }) => problems.push(message))
  page.on('console', (line) => {
    // The page is told that its server is away.
    if (['error', 'warning'].includes(line.type()) && !/ERR_FAILED|status of 500|ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE/.test(line.text())) problems.push(line.text())
  })
  page.on('dialog', (dialog) => {
    problems.push(`a dialog: ${dialog.message()}`)
    return dialog.dismiss()
  })
  await page.coverage.startJSCoverage({ resetOnNavigation: false })
  t.teardown(async () => {
    noteCoverage(await page.coverage.stopJSCoverage())
    await context.close()
    // What a teardown throws is not told.
    for (const problem of problems) console.error(`in the page: ${problem}`)
    if (problems.length > 0) throw new Error('something went wrong in the page')
  })
  await page.goto(url)
  return page
}

/** What ran in the browser counts as covered, as what ran in Node: the page is served as it stands in lib. */
function noteCoverage (entries: Awaited<ReturnType<Page['coverage']['stopJSCoverage']>>): void {
  if (process.env._TAPJS_PROCESSINFO_COVERAGE_ !== '1') return
  for (const { url, scriptId, functions } of entries) {
    const [, name] = /\/page\/([\w-]+\.js)$/.exec(url) ?? []
    if (name === undefined) continue
    // A page that is loaded again runs a script again, which is to be added up: by a file for each.
    const result = [{ url: new URL(`lib/inspector/page/${name}`, root).href, scriptId, functions }]
    writeFileSync(join('.tap', 'coverage', `browser-${randomUUID()}.json`), JSON.stringify({ result }))
  }
}
