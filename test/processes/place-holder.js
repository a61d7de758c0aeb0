// One turn in a conversation: takes its place, says so, works for a while, and tells what became of it.
import { setTimeout as wait } from 'node:timers/promises'
import Fastify from 'fastify'
import botasState from 'fastify-botas-state'
import { openStorage } from './open-storage.js'

const [storage, strategy, lease, milliseconds, name] = process.argv.slice(2)
const warnings = []
const stream = { write: (line) => { if (JSON.parse(line).level >= 40) warnings.push(JSON.parse(line).msg) } }
const app = Fastify({ logger: { stream } })
app.register(botasState, { storage: openStorage(storage), concurrency: { strategy, lease: Number(lease) }, flush: 'onSend' })
app.post('/', async ({ state: { conversation, signal } }) => {
  console.log('working')
  const names = conversation.get('names') ?? []
  await wait(Number(milliseconds))
  const isAborted = signal.aborted
  conversation.set('names', [...names, name])
  conversation.set(name, true)
  return { isAborted }
})
const reply = await app.inject({
  method: 'POST',
  url: '/',
  payload: { type: 'message', channelId: 'test', recipient: { id: 'bot' }, conversation: { id: 'c' }, from: { id: name } }
})
const { leasesLost, replacedTurns } = app.botasState.stats
console.log(JSON.stringify({ status: reply.statusCode, body: reply.json(), leasesLost, replacedTurns, warnings }))
await app.close()
