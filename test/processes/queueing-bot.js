// Sends messages to a bot of its own in several conversations, which it shares with other processes. The bot appends to what it
// read before it thought about it. Prints when each handler was at work, and how long the longest turn waited.
import { setTimeout as wait } from 'node:timers/promises'
import Fastify from 'fastify'
import botasState from 'fastify-botas-state'
import { openStorage } from './open-storage.js'

const [storage, name, messages, conversations] = process.argv.slice(2)
const IN_FLIGHT = 5
// One clock for all processes, which nobody sets.
const now = () => Number(process.hrtime.bigint() / 1000n) / 1000
const intervals = Array.from({ length: Number(conversations) }, () => [])
let longest = 0

const app = Fastify()
app.register(botasState, { storage: openStorage(storage), concurrency: { strategy: 'queue', maxWaiting: 1000 } })
app.post('/', async ({ body: { conversation: { id }, text }, state: { conversation } }) => {
  const begun = now()
  const texts = conversation.get('texts') ?? []
  await wait(Math.random() * 5)
  conversation.set('texts', [...texts, text])
  intervals[id].push([begun, now()])
})
await app.ready()

async function send (conversation, number) {
  const sent = now()
  const { statusCode, body } = await app.inject({
    method: 'POST',
    url: '/',
    payload: { type: 'message', channelId: 'test', recipient: { id: 'bot' }, conversation: { id: String(conversation) }, from: { id: name }, text: `${name}-${number}` }
  })
  if (statusCode !== 200) throw new Error(body)
  longest = Math.max(longest, now() - sent)
}

async function converse (conversation) {
  const sending = new Set()
  for (let number = 0; number < Number(messages); number++) {
    if (sending.size >= IN_FLIGHT) await Promise.race(sending)
    const one = send(conversation, number).finally(() => sending.delete(one))
    sending.add(one)
  }
  await Promise.all(sending)
}

await Promise.all(intervals.map((_, conversation) => converse(conversation)))
const { leasesLost } = app.botasState.stats
await app.close()
console.log(JSON.stringify({ intervals, longest: Math.round(longest), leasesLost }))
