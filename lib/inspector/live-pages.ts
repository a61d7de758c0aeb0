import { randomUUID } from 'node:crypto'
import type { Writable } from 'node:stream'
import { type InspectedTurns, MAX_SEEN, MAX_TURNS } from './inspected-turns.js'

/** How long news are gathered before pages are told, in milliseconds. */
const INTERVAL = 100
/** How long a page waits before it asks a server that is gone, in milliseconds. */
const RETRY = 1000
/** How often a page is written to, in milliseconds, so that nothing in between closes a connection that looks idle. */
const HEARTBEAT = 5000

/** What is known of a page. */
interface Page {
  /** Up to which revision it has been told. */
  told: number
  /** Whether it does not read what it was told. */
  isBehind: boolean
}

/** The pages that are open, each told by server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html. */
export class LivePages {
  readonly #turns: InspectedTurns
  /** tells a server from the one before, whose turns had the same numbers */
  readonly #server = randomUUID()
  readonly #pages = new Map<Writable, Page>()
  #telling: NodeJS.Timeout | undefined
  #heartbeat: NodeJS.Timeout | undefined
  #isClosed = false

  constructor (turns: InspectedTurns) {
    this.#turns = turns
  }

  /** Tells a page everything, and then what is new. */
  open (response: Writable): void {
    if (this.#isClosed) {
      response.end()
      return
    }
    this.#heartbeat ??= setInterval(() => this.#beat(), HEARTBEAT).unref()
    const page = { told: 0, isBehind: false }
    this.#pages.set(response, page)
    response.once('close', () => this.#left(response))
    // Whoever is gone is told by "close".
    response.on('error', () => {})
    response.write(`retry: ${RETRY}\n`)
    this.#write(response, page, 'begin', { server: this.#server, limits: { turns: MAX_TURNS, seen: MAX_SEEN } })
    this.#tell(response, page)
  }

  /** There is news. */
  changed (): void {
    if (this.#pages.size > 0) this.#telling ??= setTimeout(() => this.#tellAll(), INTERVAL).unref()
  }

  /** The server closes. */
  close (): void {
    this.#isClosed = true
    clearTimeout(this.#telling)
    const responses = [...this.#pages.keys()]
    for (const response of responses) {
      this.#left(response)
      response.end()
    }
  }

  #left (response: Writable): void {
    this.#pages.delete(response)
    if (this.#pages.size > 0) return
    clearInterval(this.#heartbeat)
    this.#heartbeat = undefined
  }

  #tellAll (): void {
    this.#telling = undefined
    for (const [response, page] of this.#pages) this.#tell(response, page)
  }

  /** A page that does not read is told when it does: what is new then is less than all that was. */
  #tell (response: Writable, page: Page): void {
    if (page.isBehind) return
    const { told } = page
    page.told = this.#turns.revision
    if (page.told > told || told === 0) this.#write(response, page, 'news', this.#turns.since(told))
  }

  /** By what `write` returns: HTTP/2 responses have no `writableNeedDrain`. */
  #write (response: Writable, page: Page, event: string, data: object): void {
    if (response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`) || page.isBehind) return
    page.isBehind = true
    response.once('drain', () => {
      page.isBehind = false
      this.changed()
    })
  }

  #beat (): void {
    for (const [response, { isBehind }] of this.#pages) if (!isBehind) response.write(':\n\n')
  }
}
