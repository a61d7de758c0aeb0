import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { message } from '../../helpers/activities.js'
import { buildFastify, post } from '../../helpers/build-fastify.js'
import { startRedis } from '../../helpers/redis-server.js'

/** A way to a server on which every package of commands is counted that a client sends at once. */
async function countedWay (t: Test, to: number) {
  let sent = 0
  const proxy = createServer((socket) => {
    const upstream = connect(to, '127.0.0.1')
    socket.on('data', (chunk) => {
      sent++
      upstream.write(chunk)
    })
    upstream.pipe(socket)
    for (const one of [socket, upstream]) one.on('error', () => {}).on('close', () => { socket.destroy(); upstream.destroy() })
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.teardown(() => proxy.close())
  return { url: `redis://127.0.0.1:${(proxy.address() as AddressInfo).port}`, sent: () => sent }
}

t.test('a turn is two GETs in one round trip, and one command for all that it changed in another', async (t) => {
  const server = await startRedis(t)
  const way = await countedWay(t, server.port)
  const admin = new Redis(server.url, { disableClientInfo: true })
  t.teardown(() => admin.disconnect())
  let sentBefore = 0
  const { url } = await buildFastify(t, { storage: way.url, flush: 'onSend' }, (app) => {
    app.post<{ Body: { text: string } }>('/', async ({ body: { text }, state: { conversation, user } }) => {
      sentBefore = way.sent()
      if (text === 'read') return { n: conversation.get('n'), name: user.get('name') }
      conversation.update<number>('n', (n = 0) => n + 1)
      if (text === 'both') user.update<number>('n', (n = 0) => n + 1)
      if (text === 'fail') throw new Error('no')
    })
  })
  await post(url, message({ text: 'both' }))

  // The script itself reads and writes, on the server; the token of the save before is replaced.
  const script = { evalsha: 1, hget: 1, hset: 1, pttl: 1, pexpire: 1 }
  const turns: Array<[text: string, commands: Record<string, number>, roundTrips: [before: number, after: number]]> = [
    ['read', { get: 2 }, [1, 0]],
    ['fail', { get: 2 }, [1, 0]],
    ['conversation', { get: 2 + 1, set: 1, ...script }, [1, 1]],
    ['both', { get: 2 + 2, set: 2, ...script }, [1, 1]]
  ]
  for (const [text, commands, [before, after]] of turns) {
    await admin.config('RESETSTAT')
    const begun = way.sent()
    await post(url, message({ text }))
    t.equal(sentBefore - begun, before, `${text}: before the handler`)
    t.equal(way.sent() - sentBefore, after, `${text}: after it`)
    const stats = [...(await admin.info('commandstats')).matchAll(/cmdstat_(\w+):calls=(\d+)/g)]
    t.strictSame(Object.fromEntries(stats.filter(([, name]) => !['config|resetstat', 'config', 'info'].includes(name as string))
      .map(([, name, calls]) => [name, Number(calls)])), commands, text)
  }
})
