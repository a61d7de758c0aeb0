import { once } from 'node:events'
import { type IncomingMessage, type ServerResponse, createServer, request as ask } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import type { Test } from 'tap'

/** An answer that comes in place of the emulator's, after the emulator has done what was asked, or before. */
export interface Fault {
  status: number
  headers?: Record<string, string>
  body?: string
  isDone?: boolean
  /** After so many milliseconds. */
  delay?: number
}

/** What befalls the emulator's own answer: it breaks off within its body, or never comes. */
export type Mishap = 'cut' | 'silent'

/** A request as it comes to the emulator. */
export type Asked = Pick<IncomingMessage, 'method' | 'url' | 'headers'>

/** A way to an emulator over HTTP, on which answers can be what the emulator itself never gives. */
export async function azureWay (t: Test, to: number) {
  const asked: Asked[] = []
  let faultOf: (request: Asked) => Fault | Mishap | undefined = () => undefined
  let tellsTime = true
  let shift = 0
  const proxy = createServer((incoming, reply) => {
    asked.push(incoming)
    reply.sendDate = tellsTime
    if (tellsTime) reply.setHeader('date', new Date(Date.now() + shift).toUTCString())
    const fault = faultOf(incoming)
    if (fault === 'silent') return
    if (fault !== undefined && fault !== 'cut' && fault.isDone !== true) {
      incoming.resume()
      incoming.on('end', () => answer(reply, fault))
      return
    }
    const { method, url, headers } = incoming
    const outgoing = ask({ host: '127.0.0.1', port: to, method, path: url, headers }, (response) => {
      if (fault !== undefined && fault !== 'cut') {
        response.resume()
        response.on('end', () => answer(reply, fault))
        return
      }
      const { date, ...headers } = response.headers
      reply.writeHead(response.statusCode as number, headers)
      if (fault === 'cut') response.once('data', (chunk: Buffer) => reply.write(chunk.subarray(0, chunk.length / 2), () => reply.destroy()))
      else response.pipe(reply)
    })
    incoming.pipe(outgoing)
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.teardown(() => {
    proxy.close()
    proxy.closeAllConnections()
  })
  return {
    port: (proxy.address() as AddressInfo).port,
    asked,
    /** No answer says when it was given, from now on. */
    hideTime: () => { tellsTime = false },
    /** All answers are given by a clock that is ahead by so many milliseconds. */
    shiftTime: (milliseconds: number) => { shift = milliseconds },
    /** From now on. */
    fail: (decide: (request: Asked) => Fault | Mishap | undefined) => { faultOf = decide }
  }
}

async function answer (reply: ServerResponse, { status, headers = {}, body = '', delay = 0 }: Fault): Promise<void> {
  if (delay > 0) await wait(delay)
  reply.writeHead(status, { 'content-length': Buffer.byteLength(body), ...headers }).end(body)
}
