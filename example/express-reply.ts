import type { FastifyReply } from 'fastify'

/** What SDKs that answer by Express's response use of it, or ask for in their types. */
export interface ExpressReply {
  readonly socket: unknown
  readonly headersSent: boolean
  readonly writableEnded: boolean
  status (code: number): this
  header (name: string, value: unknown): this
  setHeader (name: string, value: string): this
  send (body?: unknown): this
  end (): this
}

/** Fastify's reply in Express's clothes. */
export function expressReply (reply: FastifyReply): ExpressReply {
  let isSent = false
  return {
    socket: reply.raw.socket,
    // Fastify says so only when all hooks have seen the reply.
    get headersSent () { return isSent || reply.sent },
    get writableEnded () { return isSent || reply.sent },
    status (code) {
      reply.code(code)
      return this
    },
    header (name, value) {
      reply.header(name, value)
      return this
    },
    setHeader (name, value) { return this.header(name, value) },
    // The SDKs call `end` after `send`, too: the first one is the reply.
    send (body) {
      if (!this.writableEnded) reply.send(body)
      isSent = true
      return this
    },
    end () { return this.send() }
  }
}
