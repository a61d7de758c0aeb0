// What is compared with what.

/** A message of the n-th of many clients, each with a conversation of its own. */
const message = (n, user = n) => ({
  type: 'message',
  id: 'activity-1',
  channelId: 'bench',
  recipient: { id: 'bot' },
  conversation: { id: String(n) },
  from: { id: String(user) },
  text: 'How are you?'
})

const turns = (variant, body = (n) => message(n)) => ({ variant, body })

export const comparisons = [
  { title: 'counter turn, memory', against: 'bare Fastify, no state', target: '0.85', ours: turns('memory counter'), theirs: turns('bare') },
  { title: 'counter turn, Redis, saved after the response', against: 'by hand with ioredis', target: '1.0', ours: turns('redis counter'), theirs: turns('redis counter by hand') },
  { title: 'counter turn, Redis, saved before the response', against: 'by hand with ioredis', target: '1.0', ours: turns('redis counter, onSend'), theirs: turns('redis counter by hand, before the reply') },
  { title: 'counter turn, files', against: 'by hand', target: '0.95', ours: turns('file counter'), theirs: turns('file counter by hand') },
  { title: 'counter turn, Postgres', against: 'by hand with pg', target: '0.9', ours: turns('postgres counter'), theirs: turns('postgres counter by hand') },
  { title: 'counter turn, Azurite (an emulator)', against: 'by hand with @azure/storage-blob', target: '', ours: turns('blob counter'), theirs: turns('blob counter by hand') },
  { title: 'counter turn, Cosmos DB (an emulator)', against: 'by hand with @azure/cosmos', target: '', ours: turns('cosmos counter'), theirs: turns('cosmos counter by hand') },
  { title: 'turn that only reads, memory', against: 'bare Fastify', target: '0.92', ours: turns('memory reader'), theirs: turns('bare') },
  { title: 'history of 50 KB, Redis', against: 'by hand with ioredis', target: '0.95', ours: turns('redis history'), theirs: turns('redis history by hand') },
  { title: 'history of 50 KB, memory', against: 'by hand', target: '0.95', ours: turns('memory history'), theirs: turns('memory history by hand') },
  { title: 'history of 50 KB, files', against: 'by hand', target: '0.95', ours: turns('file history'), theirs: turns('file history by hand') },
  { title: 'history beside 200 KB untouched, Redis', against: 'by hand with ioredis', target: '1.3', ours: turns('redis history beside members'), theirs: turns('redis history beside members by hand') },
  { title: 'counter turn, Redis, `concurrency: \'queue\'`, no overlap', against: 'the same without', target: '0.85', ours: turns('redis counter, queue'), theirs: turns('redis counter') },
  { title: 'counter turn, Redis, `once`', against: 'the same without, `onSend`', target: '0.85', ours: turns('redis counter, once'), theirs: turns('redis counter, onSend') },
  { title: 'counter turn, Redis, encrypted', against: 'the same without', target: '', ours: turns('redis counter, encrypted'), theirs: turns('redis counter') },
  { title: 'history of 50 KB, Redis, encrypted', against: 'the same without', target: '', ours: turns('redis history, encrypted'), theirs: turns('redis history') },
  { title: 'counter turn, memory, with a schema of zod and a version', against: 'the same without', target: '', ours: turns('memory counter, schema'), theirs: turns('memory counter') },
  { title: 'counter turn, memory, with the inspector', against: 'the same without', target: '', ours: turns('memory counter, inspected'), theirs: turns('memory counter') },
  { title: 'no plugin, but its hooks, empty', against: 'bare Fastify', target: '', ours: turns('empty hooks'), theirs: turns('bare') },
  { title: 'route that is no turn', against: 'bare Fastify', target: '0.98', ours: turns('no turn', () => ({ text: 'How are you?' })), theirs: turns('bare', () => ({ text: 'How are you?' })) },
  { title: 'turn beside an untouched user document of 256 KB, Redis', against: 'the same without the document', target: '', ours: turns('redis conversation counter', (n) => message(n, 'with a large document')), theirs: turns('redis conversation counter', (n) => message(n, 'without any')) },
  { title: 'the two GETs of that turn by hand', against: 'the same without the document', target: '', ours: turns('redis GETs by hand', (n) => message(n, 'with a large document')), theirs: turns('redis GETs by hand', (n) => message(n, 'without any')) }
]

const stored = (storage) => ({
  title: `conversations stored, ${storage}`,
  loads: [1, 1000, 1_000_000].map((count) => ({
    ...turns(`${storage} with ${count} conversations`), title: count.toLocaleString('en'), connections: 1
  }))
})

const connected = (title, variant) => ({
  title: `connections, ${title}`,
  loads: [1, 4, 16, 64, 256].map((connections) => ({ ...turns(variant), title: connections, connections }))
})

export const series = [
  stored('memory'),
  stored('redis'),
  connected('counter turn in memory', 'memory counter'),
  connected('bare Fastify', 'bare')
]
