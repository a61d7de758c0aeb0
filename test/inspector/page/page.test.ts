import { setTimeout as wait } from 'node:timers/promises'
import axe, { type AxeResults } from 'axe-core'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { FileStorage, MemoryStorage } from '../../../lib/index.js'
import { post, settled } from '../../helpers/build-fastify.js'
import { CONVERSATION_KEY, USER_KEY } from '../../helpers/activities.js'
import { openBrowser, openPage } from '../../helpers/browser.js'
import { type InspectedBot, inspectedBot } from '../../helpers/inspected-bot.js'
import { LeasingStorage } from '../../helpers/leasing-storage.js'
import { RecordingStorage } from '../../helpers/recording-storage.js'
import { slowStorage } from '../../helpers/slow-storage.js'

const browser = await openBrowser(t)

async function opened (t: Test, bot: InspectedBot, ...options: [Parameters<typeof openPage>[3]?]): Promise<Page> {
  const page = await openPage(t, browser, `${bot.url}/inspector`, ...options)
  await page.getByRole('status').filter({ hasText: 'live' }).waitFor()
  return page
}

/** Waits until something is to be seen. */
async function sees (page: Page, where: string, ...texts: Array<string | RegExp>): Promise<void> {
  let region = page.locator(where)
  for (const text of texts) region = region.filter({ hasText: text })
  await region.first().waitFor({ timeout: 10_000 })
}

/** The bars in the timeline, as screen readers hear them. */
async function turnsIn (page: Page): Promise<string[]> {
  return page.locator('a.bar').evaluateAll((bars) => bars.map((bar) => bar.getAttribute('aria-label') ?? ''))
}

t.test('messages that are sent while the page is open show up by themselves: turns, what they changed, what is stored', async (t) => {
  const bot = await inspectedBot(t)
  const page = await opened(t, bot)
  await sees(page, '.timeline', 'No turn yet')
  for (const [index, text] of ['one', 'two', 'three'].entries()) {
    await bot.say(text)
    await sees(page, '.details', `Turn ${index + 1}`, 'saved')
    await sees(page, '.documents', `turn_count: ${index + 1}`, `user_message_count: ${index + 1}`, text)
  }
  await sees(page, '.changes li', 'turn_count', '2', '3')
  await sees(page, '.changes li.added', 'said[2]', '"three"')
  await sees(page, '.seen', 'conversation-1', '3 turns')
  t.equal((await turnsIn(page)).length, 3)
  await bot.say('four')
  await sees(page, '.changes li.removed', 'said[0]', '"one"')
  await sees(page, '.tree .is-changed', 'turn_count: 4')
})

t.test('turns of one conversation that are at work at once are below each other, and marked', async (t) => {
  const bot = await inspectedBot(t)
  const page = await opened(t, bot)
  await Promise.all([bot.say('slow'), wait(100).then(() => bot.say({ text: 'slow', user: 'user-2' })), bot.say({ text: 'slow', conversation: 'other', user: 'user-3' })])
  await page.locator('a.bar.saved').nth(2).waitFor()
  const turns = await turnsIn(page)
  t.equal(turns.filter((turn) => turn.includes('overlapped another turn of the conversation')).length, 2)
  const tops = await page.locator('.lane', { hasText: 'conversation-1' }).locator('a.bar').evaluateAll((bars) => bars.map((bar) => bar.getBoundingClientRect().top))
  t.not(tops[0], tops[1])
  t.equal(await page.locator('.lane').count(), 2, 'one lane a conversation')
})

t.test('a turn that waits for its place, one that is replaced and one that is replayed are seen as such', async (t) => {
  const bot = await inspectedBot(t, { storage: new MemoryStorage(), once: true, concurrency: (request) => (request.body as { strategy: 'queue' | 'replace' }).strategy })
  const page = await opened(t, bot)
  const first = bot.say({ text: 'slow', strategy: 'queue' })
  await page.locator('a.bar.open').waitFor()
  const second = bot.say({ text: 'second', strategy: 'queue' })
  await page.locator('a.bar.open .phase.waiting').waitFor()
  await Promise.all([first, second])
  await page.locator('a.bar.saved').nth(1).waitFor()
  const replaced = bot.say({ text: 'slow', strategy: 'replace' })
  await page.locator('a.bar.open').waitFor()
  await bot.say({ text: 'third', strategy: 'replace', id: 'same' })
  await replaced
  await bot.say({ text: 'third', strategy: 'replace', id: 'same' })
  await page.locator('a.bar.replayed').waitFor()
  const turns = await turnsIn(page)
  t.match(turns.find((turn) => turn.startsWith('Turn 3')), /replaced by a later turn/)
  t.match(turns.find((turn) => turn.startsWith('Turn 5')), /replayed, its activity was handled before/)
  t.notMatch(turns.find((turn) => turn.startsWith('Turn 2')), /overlapped another/, 'who waits is not at work')
  await page.locator('a.bar.replaced').click()
  await sees(page, '.details', 'FST_BOTAS_STATE_REPLACED', 'nothing of it is saved')
})

t.test('a failed turn shows its code and what was thrown, or what the storage said', async (t) => {
  const storage = new RecordingStorage()
  const bot = await inspectedBot(t, { storage, routes: (app) => app.post('/busy', async (_request, reply) => reply.code(503).send({})) })
  const page = await opened(t, bot)
  await bot.say('one')
  t.equal(await bot.say('fail'), 500)
  await sees(page, '.details', 'Turn 2', 'failed', 'MODEL_AWAY', 'the model is away')
  await sees(page, '.documents', 'turn_count: 1')
  await sees(page, '.details h3', 'Not saved in')
  await sees(page, '.changes li', 'turn_count', '1', '2')
  storage.failures.update = new Error('the disk is full')
  await bot.say('three')
  await bot.app.inject({ method: 'POST', url: '/busy', payload: { channelId: 'test', recipient: { id: 'bot' }, from: { id: 'u' } } })
  await sees(page, '.details', 'Turn 4', 'Its reply was a server error')
  await page.goto(`${bot.url}/inspector#/turn=3`)
  await sees(page, '.details', 'Turn 3', 'failed', 'nothing of it is saved', 'FST_BOTAS_STATE_SAVE_FAILED', 'the disk is full')
})

t.test('a document of a megabyte leaves the page quick: it is drawn where it is opened', async (t) => {
  const bot = await inspectedBot(t, { storage: slowStorage() })
  const page = await opened(t, bot)
  await bot.say('long')
  await sees(page, '.documents', /1\.\d MB/)
  await sees(page, '.changes', 'long', 'Cut')
  t.ok(await page.locator('*').count() < 500, 'few elements')
  await sees(page, '.tree', 'Cut: the first')
  await bot.say('two')
  await sees(page, '.documents', 'turn_count: 2')
})

t.test('a document of many members leaves the page quick as well', async (t) => {
  const bot = await inspectedBot(t, {
    routes: (app) => app.post('/members', async ({ state }) => {
      for (let index = 0; index < 9000; index++) state.user.set(`member-${index}`, { a: { b: [{ c: 'x'.repeat(40) }] }, d: [1, 2, 3] })
      return {}
    })
  })
  const page = await opened(t, bot)
  await post(`${bot.url}/members`, { channelId: 'test', recipient: { id: 'bot' }, from: { id: 'u' } })
  await sees(page, '.documents', 'member-8900 … member-8999')
  t.ok(await page.locator('.documents *').count() < 1000, 'few elements')
  await page.locator('.tree summary', { hasText: 'member-8900' }).click()
  await page.locator('.tree summary', { hasText: 'member-8950' }).click()
  await sees(page, '.tree', 'member-8950', 'd [3 items]')
})

t.test('a value that is nested deeply opens as far as somebody opens it, to some depth', async (t) => {
  const nested = (depth: number): string => '{"a":'.repeat(depth) + '1' + '}'.repeat(depth)
  const directory = t.testdir({ 'test%2Fbot%2Fusers%2Fuser-1.json': `{"deep":${nested(130)},"deeper":${nested(20_000)}}` })
  const bot = await inspectedBot(t, { storage: new FileStorage(directory) })
  const page = await opened(t, bot)
  await bot.app.botasState.run({ channelId: 'test', botId: 'bot', userId: 'user-1' }, ({ user }) => user.get('deep') !== undefined)
  const openAll = `(async () => {
    for (let level = 0; level < 25; level++) {
      for (const closed of document.querySelectorAll('.tree details:not([open]):not(.long)')) closed.open = true
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  })()`
  await sees(page, '.tree', 'deep {1 member}', 'deeper {…} 120,001 characters')
  await page.evaluate(openAll)
  await page.locator('.tree li', { hasText: 'nested too deeply to be shown' }).nth(21).waitFor()
  await bot.say('hi')
  await sees(page, '.details', 'Turn 2')
})

t.test('a text that was opened stays open when others come and go', async (t) => {
  const storage = new RecordingStorage()
  const bot = await inspectedBot(t, { storage })
  const page = await opened(t, bot)
  const long = (text: string): string => text.repeat(300)
  const store = async (names: string[]): Promise<void> => {
    await storage.store(USER_KEY, Object.fromEntries(names.map((name) => [name, long(name)])))
    await bot.app.botasState.run({ channelId: 'test', botId: 'bot', userId: 'user-1' }, ({ user }) => user.get('a'))
  }
  await store(['a', 'b'])
  await page.locator('.tree .leaf', { hasText: 'b: ' }).locator('summary').click()
  await store(['b', 'c'])
  await sees(page, '.tree', 'c: ')
  t.strictSame(await page.locator('.tree details.long').evaluateAll((all) => all.map((one) => (one as unknown as { open: boolean }).open)), [true, false])
})

t.test('a document is gone from the page when it has expired', async (t) => {
  const bot = await inspectedBot(t, { storage: new MemoryStorage({ ttl: 2 }) })
  const page = await opened(t, bot)
  await bot.say('hi')
  await sees(page, '.documents', 'turn_count: 1', /expires in \d/)
  await sees(page, '.documents', 'Nothing is stored')
  t.equal(await page.getByText('turn_count: 1').count(), 0)
})

t.test('of a turn that is saved in part, it is told what is saved, and why not all', async (t) => {
  const storage = new RecordingStorage()
  const bot = await inspectedBot(t, { storage })
  const page = await opened(t, bot)
  storage.failures.update = (key) => key === USER_KEY ? new Error('the disk is full') : undefined
  await bot.say('one')
  await sees(page, '.details', 'failed', 'saved in part', 'FST_BOTAS_STATE_SAVE_FAILED', 'the disk is full', 'turn_count')
  await sees(page, '.details h3', 'Changed in', CONVERSATION_KEY)
  await sees(page, '.details h3', 'Not saved in', USER_KEY)
})

t.test('a turn that is chosen comes into sight, and so does the latest one when it is followed again', async (t) => {
  const bot = await inspectedBot(t, { storage: new MemoryStorage() })
  const page = await opened(t, bot)
  await bot.say({ text: 'hi', conversation: 'first' })
  for (let turn = 0; turn < 60; turn++) await bot.say(`${turn}`)
  const isInSight = (id: number) => settled(async () => page.evaluate(`(() => {
    const [bar, lanes] = [document.querySelector('a.bar[href^="#/turn=${id}&"]'), document.querySelector('.lanes')].map((element) => element?.getBoundingClientRect())
    return bar !== undefined && bar.left >= lanes.left && bar.right <= lanes.right
  })()`))
  await isInSight(61)
  await page.locator('.seen a', { hasText: 'first' }).click()
  await isInSight(1)
  t.match(await page.locator('a.bar[aria-current=true]').getAttribute('href'), /^#\/turn=1&/)
  await page.keyboard.press('Escape')
  await isInSight(61)
  await bot.say('last')
  await isInSight(62)
})

t.test('a filter that leaves nothing says so, and the latest turn is the latest of those that it leaves', async (t) => {
  const bot = await inspectedBot(t)
  const page = await opened(t, bot)
  for (const conversation of ['lunch', 'dinner']) await bot.say({ text: 'hi', conversation, user: `user-${conversation.length}` })
  await sees(page, '.details', 'Turn 2')
  await page.getByLabel('Filter').fill('lunch')
  await sees(page, '.details', 'Turn 1')
  await sees(page, '.seen', 'lunch', 'user-5')
  await page.getByLabel('Filter').fill('breakfast')
  await sees(page, '.timeline', 'Nothing matches the filter.')
  t.equal(await page.locator('.seen li, .documents article').count(), 0)
})

t.test('a long list opens part by part', async (t) => {
  const bot = await inspectedBot(t, {
    routes: (app) => app.post('/list', async ({ state }) => {
      state.conversation.set('list', Array.from({ length: 30_000 }, (_, index) => index))
      state.conversation.set('deep', { a: { b: [{ c: 'leaf' }] }, 'a name with spaces': 'x'.repeat(3000) })
      return {}
    })
  })
  const page = await opened(t, bot)
  await post(`${bot.url}/list`, { channelId: 'test', recipient: { id: 'bot' }, conversation: { id: 'c' } })
  const summary = (name: string) => page.locator('.tree summary', { hasText: name })
  await sees(page, '.tree summary', 'list', '[…] 168,891 characters')
  await summary('list').click()
  await summary('10000 … 19999').click()
  await summary('12300 … 12399').click()
  await sees(page, '.tree li', '12345: 12345')
  t.ok(await page.locator('.tree li').count() < 400)
  await summary('list').click()
  await page.getByText('12345: 12345').waitFor({ state: 'detached' })
  for (const name of ['deep', 'a {1 member}', 'b [1 item]', '0 {1 member}']) await summary(name).click()
  await sees(page, '.tree li', 'c: "leaf"')
  await sees(page, '.tree details.long', '3,002 characters')
})

t.test('what users say, and are called, is shown and never run', async (t) => {
  const hostile = ['<script>alert(1)</script>', '<img src=x onerror=alert(2)>', 'javascript:alert(3)', '{{constructor.constructor("alert(4)")()}}', '"><svg onload=alert(5)>', '%24{alert(6)}', "' autofocus onfocus='alert(7)", '__proto__']
  const bot = await inspectedBot(t, {
    routes: (app) => app.post('/set', async ({ body, state }) => {
      for (const name of [...hostile, 'x'.repeat(5000)]) state.user.set(name, { [name]: name })
      return body
    })
  })
  const page = await opened(t, bot)
  for (const text of hostile) {
    await bot.say({ text, conversation: text, user: text })
    await post(`${bot.url}/set`, { channelId: text, recipient: { id: text }, conversation: { id: text }, from: { id: text } })
    await sees(page, '.seen a[aria-current=true]', text)
    await sees(page, '.tree', text)
  }
  for (const link of await page.locator('a').evaluateAll((links) => links.map((link) => link.getAttribute('href')))) t.match(link, /^#/)
  t.equal(await page.locator('main script, main img, main svg, [onerror], [onload], [onfocus]').count(), 0)
  await page.locator('.seen a').first().click()
  await sees(page, '.documents article')
  await page.goto(`${bot.url}/inspector#/key=${encodeURIComponent('<img src=x onerror=alert(8)>')}`)
  await sees(page, '.documents', '<img src=x onerror=alert(8)>', 'No longer kept')
})

t.test('it is used by the keyboard alone', async (t) => {
  const bot = await inspectedBot(t)
  const page = await opened(t, bot)
  for (const conversation of ['a', 'b']) for (const text of ['one', 'two', 'three']) await bot.say({ text, conversation, user: conversation })
  await page.locator('a.bar').nth(5).waitFor()
  await sees(page, '.details', 'Turn 6', 'saved')
  const focused = async (): Promise<string | null> => page.evaluate('document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent')
  const tabTo = async (label: RegExp): Promise<void> => {
    for (let presses = 0; presses < 40 && !label.test(await focused() ?? ''); presses++) await page.keyboard.press('Tab')
    t.match(await focused(), label)
  }
  await tabTo(/^Turn 6/)
  await page.keyboard.press('ArrowLeft')
  t.match(await focused(), /Turn 5/)
  await page.keyboard.press('ArrowDown')
  t.match(await focused(), /Turn 3/)
  await page.keyboard.press('ArrowDown')
  t.match(await focused(), /Turn 3/, 'there is no lane below')
  await page.keyboard.press('Home')
  t.match(await focused(), /Turn 1/)
  await page.keyboard.press('ArrowLeft')
  t.match(await focused(), /Turn 1/, 'there is none before')
  await page.keyboard.press('End')
  await page.keyboard.press('ArrowUp')
  t.match(await focused(), /Turn [45]/)
  await page.keyboard.press('ArrowUp')
  t.match(await focused(), /Turn [45]/, 'there is no lane above')
  await page.keyboard.press('ArrowRight')
  await page.keyboard.press('Enter')
  await sees(page, '.details', /Turn [56]/)
  t.match(new URL(page.url()).hash, /^#\/turn=[56]&of=/)
  await tabTo(/^said/)
  await page.keyboard.press('Enter')
  await page.getByText('"one"').first().waitFor({ state: 'detached' })
  await page.keyboard.press('Escape')
  await page.getByText('follows the latest turn').waitFor()
  await bot.say({ text: 'four', conversation: 'a', user: 'a' })
  await sees(page, '.details', 'Turn 7')
})

for (const [name, options] of Object.entries({
  light: { colorScheme: 'light' },
  dark: { colorScheme: 'dark' },
  phone: { viewport: { width: 390, height: 800 } }
} as const)) {
  t.test(`axe finds no violation: ${name}`, async (t) => {
    const bot = await inspectedBot(t, { once: true, storage: new MemoryStorage() })
    const page = await opened(t, bot, options)
    t.strictSame(await violations(page), [], 'while there is nothing')
    await Promise.all([bot.say('slow'), bot.say({ text: 'slow', id: 'same' }), bot.say({ text: 'slow', id: 'same' })])
    await bot.say('fail')
    await bot.say('long')
    await sees(page, '.documents', 'MB')
    await sees(page, '.changes', 'long')
    await page.locator('.tree summary').first().click()
    for (let turn = 0; turn < 60; turn++) await bot.say({ text: `${turn}`, conversation: `conversation-${turn % 7}` })
    await page.locator('a.bar').nth(60).waitFor()
    t.strictSame(await violations(page), [])
    await bot.say({ text: '\u202e<script>', conversation: '\u202e<script>', user: 'x'.repeat(1000) })
    await sees(page, '.seen', '\\u202e<script>')
    await page.getByLabel('Filter').fill('nothing')
    await sees(page, '.timeline', 'Nothing matches')
    t.strictSame(await violations(page), [])
    await page.getByLabel('Filter').fill('')
    const width = await page.evaluate('document.documentElement.scrollWidth')
    t.ok(Number(width) <= Number(page.viewportSize()?.width), 'nothing is wider than the window')
  })
}

/** Evaluated in a world of its own, which the policy of the page says nothing about. */
async function violations (page: Page): Promise<string[]> {
  await page.evaluate(axe.source)
  const { violations } = await page.evaluate('axe.run()') as AxeResults
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`)
}

t.test('a filter leaves what it names, and a link leads to one conversation', async (t) => {
  const bot = await inspectedBot(t)
  const page = await opened(t, bot)
  for (const conversation of ['lunch', 'dinner']) await bot.say({ text: 'hi', conversation, user: `of-${conversation}` })
  await page.locator('.lane').nth(1).waitFor()
  await page.getByLabel('Filter').fill('LUNCH')
  await page.locator('.lane').nth(1).waitFor({ state: 'detached' })
  t.equal(await page.locator('.seen li').count(), 2)
  await page.locator('.lane h3 a').click()
  await sees(page, '.documents', 'lunch', 'turn_count: 1')
  await bot.say({ text: 'again', conversation: 'lunch', user: 'of-lunch' })
  await sees(page, '.documents', 'turn_count: 2')
  const next = await openPage(t, browser, page.url())
  await sees(next, '.documents', 'lunch', 'turn_count: 2')
  await page.goBack()
  await page.getByText('follows the latest turn').waitFor()
})

t.test('much is shown in part, and says so', async (t) => {
  const bot = await inspectedBot(t, {
    storage: new RecordingStorage(),
    routes: (app) => app.post('/much', async ({ state }) => {
      for (let index = 0; index < 300; index++) state.user.set(`m${index}`, 'x'.repeat(4000))
      return {}
    })
  })
  const page = await opened(t, bot)
  for (let user = 0; user < 60; user++) await bot.say({ text: 'hi', user: `user-${user}`, conversation: `conversation-${user}` })
  await sees(page, 'nav', 'and 20 more: filter them')
  await wait(1100)
  await post(`${bot.url}/much`, { channelId: 'test', recipient: { id: 'bot' }, from: { id: 'ada' } })
  await sees(page, '.pause', /^1\.[1-9] s$/)
  await sees(page, '.details', /and 28\d more changes/)
  await sees(page, '.documents', 'more members', 'expiry unknown')
})

t.test('what cannot be shown is said', async (t) => {
  const storage = new RecordingStorage()
  const bot = await inspectedBot(t, { storage })
  const page = await opened(t, bot)
  await bot.say('one')
  await sees(page, '.documents', 'turn_count: 1')
  await page.route('**/document?*', (route) => route.abort())
  await bot.say('two')
  await sees(page, '.documents', 'The server does not answer.')
  await page.unroute('**/document?*')
  await page.route('**/document?*', (route) => route.fulfill({ status: 500, json: { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT', message: 'the stored document is a text' } }))
  await bot.say('three')
  await sees(page, '.documents', 'FST_BOTAS_STATE_CORRUPT_DOCUMENT: the stored document is a text')
  await page.unroute('**/document?*')
  await page.route('**/document?*', (route) => route.fulfill({ status: 500, json: { message: 'the disk is gone' } }))
  await bot.say('four')
  await sees(page, '.documents', '500: the disk is gone')
  await page.unroute('**/document?*')
  await page.route('**/document?*', (route) => route.fulfill({ status: 200, body: '<html>' }))
  await sees(page, '.documents', 'something else than JSON')
  await page.unroute('**/document?*')
  await bot.say('five')
  await sees(page, '.documents', 'turn_count: 5')
  await page.goto(`${bot.url}/inspector#/turn=17`)
  await sees(page, '.details', 'No longer kept.')
})

t.test('a turn that lost its place says so', async (t) => {
  const storage = new LeasingStorage()
  const bot = await inspectedBot(t, { storage, concurrency: { strategy: 'queue', lease: 1000 } })
  const page = await opened(t, bot)
  const lease = storage.lease.bind(storage)
  await bot.app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: 'c' }, async (state) => {
    storage.lease = async () => 'somebody else'
    await settled(() => bot.app.botasState.stats.leasesLost === 1)
    storage.lease = lease
    state.conversation.set('n', 1)
  })
  await sees(page, '.details', 'It lost its place in the conversation')
  t.match((await turnsIn(page))[0], /overlapped another turn of the conversation/)
})

t.test('a turn whose save was tried again says so', async (t) => {
  const storage = new RecordingStorage()
  const bot = await inspectedBot(t, { storage })
  const page = await opened(t, bot)
  const update = storage.update.bind(storage)
  let times = 0
  storage.update = async (key, change, _loaded?: unknown, call?: { retrying (): void }) => {
    for (let time = 0; time < times; time++) call?.retrying()
    await update(key, change)
  }
  for (times of [1, 2]) {
    await bot.app.botasState.run({ channelId: 'test', botId: 'bot', conversationId: 'c' }, (state) => { state.conversation.set('n', times) })
    await sees(page, '.details', times === 1 ? 'had to try again once' : 'had to try again 2 times')
  }
  t.match((await turnsIn(page))[0], /the storage had to try again/)
})

t.test('several pages are open at once, and find the server again that was restarted', async (t) => {
  const bot = await inspectedBot(t)
  const pages = await Promise.all([1, 2, 3].map(() => opened(t, bot)))
  await bot.say('one')
  for (const page of pages) await sees(page, '.documents', 'turn_count: 1')
  const { port } = new URL(bot.url)
  await bot.app.close()
  for (const page of pages) await page.getByText('connecting').waitFor()
  const next = await inspectedBot(t, { storage: new MemoryStorage(), port: Number(port) })
  for (const page of pages) await page.getByText('live', { exact: true }).waitFor()
  for (const page of pages) await sees(page, '.timeline', 'No turn yet')
  await next.say('two')
  for (const page of pages) await sees(page, '.documents', 'turn_count: 1', '"two"')
})

t.test('a turn that was chosen is not taken for one of the server that was started since', async (t) => {
  const bot = await inspectedBot(t)
  const page = await opened(t, bot)
  await bot.say('one')
  await page.locator('a.bar').click()
  await page.getByText('Follow the latest turn').waitFor()
  await bot.say('another')
  const tab = await openPage(t, browser, page.url())
  await sees(tab, '.details', 'Turn 1')
  await tab.getByText('Follow the latest turn').waitFor()
  await bot.app.close()
  await page.getByText('connecting').waitFor()
  const next = await inspectedBot(t, { port: Number(new URL(bot.url).port) })
  await page.getByText('follows the latest turn').waitFor()
  await next.say('two')
  await sees(page, '.details', 'Turn 1', '"two"')
})

t.test('what another process has stored is shown before long', async (t) => {
  const storage = new RecordingStorage()
  const bot = await inspectedBot(t, { storage })
  const page = await opened(t, bot)
  await bot.say('one')
  await sees(page, '.documents', 'turn_count: 1')
  await storage.store(CONVERSATION_KEY, { turn_count: 77 })
  await sees(page, '.documents', 'turn_count: 77')
})

t.test('a turn that was refused at once has its place', async (t) => {
  const bot = await inspectedBot(t, { concurrency: 'reject' })
  const page = await opened(t, bot)
  const first = bot.say('slow')
  await page.locator('a.bar.open').waitFor()
  t.equal(await bot.say('refused'), 409)
  await first
  await bot.say('last')
  await page.locator('a.bar').nth(2).waitFor()
  await sees(page, '.details', 'Turn 3', 'saved')
  const turns = await page.locator('a.bar').evaluateAll((bars) => bars.sort((one, other) => one.getBoundingClientRect().left - other.getBoundingClientRect().left).map((bar) => bar.getAttribute('aria-label')))
  t.match(turns, [/^Turn 1: saved/, /^Turn 2: failed, .*FST_BOTAS_STATE_BUSY/, /^Turn 3: saved/])
})

t.test('of a corrupt document that is cleared it is told that it could not be read', async (t) => {
  const directory = t.testdir({ 'test%2Fbot%2Fusers%2Fuser-1.json': '{"a": 1, broken' })
  const bot = await inspectedBot(t, { storage: new FileStorage(directory) })
  const page = await opened(t, bot)
  await bot.app.botasState.run({ channelId: 'test', botId: 'bot', userId: 'user-1' }, ({ user }) => { user.clear() })
  await sees(page, '.details', 'Turn 1', 'saved', `Changed in ${USER_KEY}`, 'could not be read')
})

t.test('it is told of turns that no request began, and of what the storage forgets', async (t) => {
  const storage = new MemoryStorage({ ttl: 7200 })
  const bot = await inspectedBot(t, { storage })
  const page = await opened(t, bot)
  await bot.app.botasState.run({ channelId: 'test', botId: 'bot', userId: 'user-1' }, (state) => { state.user.set('reminded', true) })
  await sees(page, '.details', 'Turn 1', 'botasState.run')
  await sees(page, '.documents', 'expires in 2 h', 'reminded: true')
  await bot.app.botasState.run({ channelId: 'test', botId: 'bot', userId: 'user-1' }, (state) => { state.deleteUserState() })
  await sees(page, '.changes li.removed', 'reminded')
  await sees(page, '.documents', 'Nothing is stored')
  t.strictSame(await storage.read([USER_KEY, CONVERSATION_KEY]), {})
})

t.test('a page that its server refuses asks again', async (t) => {
  const bot = await inspectedBot(t)
  const page = await opened(t, bot)
  await page.route('**/events', (route) => route.fulfill({ status: 500 }))
  await page.evaluate('document.dispatchEvent(new Event("visibilitychange"))')
  await page.getByText('connecting').waitFor()
  await page.unroute('**/events')
  await page.getByText('live', { exact: true }).waitFor()
})

t.test('a page in the background is not told, so that a seventh page can be opened', async (t) => {
  const bot = await inspectedBot(t)
  const page = await opened(t, bot)
  const hide = (hidden: boolean): Promise<unknown> => page.evaluate(`Object.defineProperty(document, 'hidden', { value: ${hidden}, configurable: true }); document.dispatchEvent(new Event('visibilitychange'))`)
  await hide(true)
  await bot.say('one')
  await wait(300)
  t.equal(await page.locator('a.bar').count(), 0)
  await hide(false)
  await sees(page, '.documents', 'turn_count: 1')
})
