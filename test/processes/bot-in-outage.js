// A bot that gets turns at a steady rate while its storage comes and goes. Arguments: a storage, turns a second. Prints a
// line of JSON every second: what became of the turns so far, the milliseconds that the last one took, and the bytes of
// the heap that are in use. Closes on SIGTERM.
import Fastify from 'fastify'
import botasState from 'fastify-botas-state'
import { openStorage } from './open-storage.js'

const [url, rate] = process.argv.slice(2)
const TICK = 20

const app = Fastify()
await app.register(botasState, { storage: openStorage(url) })
app.post('/', async ({ state: { conversation } }) => ({ count: conversation.update('count', (count = 0) => count + 1) }))
await app.ready()

let sent = 0
let succeeded = 0
let failed = 0
let latest = 0

async function turn () {
  const begun = performance.now()
  const payload = { channelId: 'test', recipient: { id: 'bot' }, conversation: { id: String(sent++ % 1000) } }
  const { statusCode } = await app.inject({ method: 'POST', url: '/', payload })
  if (statusCode === 200) succeeded++
  else failed++
  latest = performance.now() - begun
}

const begin = performance.now()
const turns = setInterval(() => {
  while (sent < (performance.now() - begin) * Number(rate) / 1000) turn()
}, TICK)
const reports = setInterval(() => {
  globalThis.gc()
  const { openTurns } = app.botasState.stats
  console.log(JSON.stringify({ sent, succeeded, failed, openTurns, latest: Math.round(latest), heap: process.memoryUsage().heapUsed }))
}, 1000)
process.once('SIGTERM', () => {
  clearInterval(turns)
  clearInterval(reports)
  app.close()
})
