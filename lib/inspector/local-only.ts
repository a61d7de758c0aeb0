import { BlockList } from 'node:net'
import type { FastifyRequest } from 'fastify'

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

/** What proxies and tunnels add: a request that came by one is from wherever it likes to be from. */
const FORWARDED = /^(?:x-(?:forwarded|original|real|client|envoy)-.*|forwarded|via|(?:cf|true)-.*ip)$/

/**
 * Why a request is not known to come from this machine; `undefined` where it is. The socket is asked, and not `request.ip`, which
 * `trustProxy` takes from a header.
 */
export function notLocal ({ raw, headers }: FastifyRequest): string | undefined {
  const { remoteAddress } = raw.socket
  if (remoteAddress === undefined || !isLoopback(remoteAddress)) return 'it comes from another machine'
  const forwarded = Object.keys(headers).find((name) => FORWARDED.test(name))
  if (forwarded !== undefined) return `it comes by a proxy or a tunnel, as its header "${forwarded}" says`
  // As it comes, nginx before 1.29.7 speaks HTTP/1.0, and does not name itself.
  if (raw.httpVersion === '1.0') return 'it comes by HTTP/1.0, which no browser speaks'
  // A name of somebody else's may lead here: DNS rebinding.
  if (!isLocalName(hostOf(headers))) return 'it asks for another host than localhost'
}

/** Whether a page of another origin asks: CORS headers of the application's must not let it read what is answered. */
export function isCrossOrigin ({ headers }: FastifyRequest): boolean {
  const { 'sec-fetch-site': site, origin } = headers
  if (site !== undefined) return site !== 'same-origin' && site !== 'none'
  return origin !== undefined && (!URL.canParse(origin) || new URL(origin).host !== hostOf(headers))
}

/** HTTP/2 has a name of its own for it. */
function hostOf (headers: FastifyRequest['headers']): string | undefined {
  return (headers[':authority'] ?? headers.host) as string | undefined
}

function isLoopback (address: string): boolean {
  return loopback.check(address, address.includes(':') ? 'ipv6' : 'ipv4')
}

function isLocalName (host: string | undefined): boolean {
  if (host === undefined || /[@/\\?#]/.test(host) || !URL.canParse(`http://${host}`)) return false
  const { hostname } = new URL(`http://${host}`)
  return /(?:^|\.)localhost$/.test(hostname) || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname)
}
