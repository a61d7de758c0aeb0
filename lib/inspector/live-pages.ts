import { randomUUID } from 'node:crypto'
import type { Writable } from 'node:stream'
import { type InspectedTurns, MAX_SEEN, MAX_TURNS } from './inspected-turns.js'

/** How long news are gathered before pages are told, in milliseconds. */
const INTERVAL = 100
/** How long a page waits before it asks a server that is gone, in milliseconds. */
const RETRY = 1000
/** How often a page is written to, in milliseconds, so that nothing in between closes a connection that looks idle. */
const HEARTBEAT = 5000

/** The pages that are open, each told by server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html. */
export class LivePages {
  readonly #turns: InspectedTurns
  /** tells a server from the one before, whose turns had the same numbers */
  readonly #server = randomUUID()
  /** up to which revision each has been told */
  readonly #told = new Map<Writable, number>()
  /** those that do not read what they were told */
  readonly #behind = new Set<Writable>()
  #telling: NodeJS.Timeout | undefined
  #heartbeat: NodeJS.Timeout | undefined

  constructor (turns: InspectedTurns) {
    this.#turns = turns
  }

  /** Tells a page everything, and then what is new. */
  open (response: Writable): void {
    this.#heartbeat ??= setInterval(() => this.#beat(), HEARTBEAT).unref()
    this.#told.set(response, 0)
    response.once('close', () => this.#closed(response))
    response.write(`retry: ${RETRY}\n`)
    this.#write(response, 'begin', { server: this.#server, limits: { turns: MAX_TURNS, seen: MAX_SEEN } })
    this.#tell(response)
  }

  /** There is news. */
  changed (): void {
    if (this.#told.size > 0) this.#telling ??= setTimeout(() => this.#tellAll(), INTERVAL).unref()
  }

  /** The server closes. */
  close (): void {
    for (const response of this.#told.keys()) response.end()
  }

  #closed (response: Writable): void {
    this.#told.delete(response)
    this.#behind.delete(response)
    if (this.#told.size > 0) return
    clearInterval(this.#heartbeat)
    this.#heartbeat = undefined
  }

  #tellAll (): void {
    this.#telling = undefined
    for (const response of this.#told.keys()) this.#tell(response)
  }

  /** A page that does not read is told when it does: what is new then is less than all that was. */
  #tell (response: Writable): void {
    if (this.#behind.has(response)) return
    if (response.writableNeedDrain) {
      this.#behind.add(response)
      response.once('drain', () => {
        this.#behind.delete(response)
        this.changed()
      })
      return
    }
    const told = this.#told.get(response) as number
    this.#told.set(response, this.#turns.revision)
    this.#write(response, 'news', this.#turns.since(told))
  }

  #write (response: Writable, event: string, data: object): void {
    response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`)
  }

  #beat (): void {
    for (const response of this.#told.keys()) response.write(':\n\n')
  }
}
