// Updates one key that other processes update, too. Arguments: a storage, own name, updates, and how many at once. Prints the longest
// time that one update took, in milliseconds.
import { openStorage } from './open-storage.js'

const [url, name, updates, concurrency] = process.argv.slice(2)
const storage = openStorage(url)
let next = 0
let longest = 0

async function work () {
  while (next++ < Number(updates)) {
    const before = performance.now()
    const { key } = await storage.read(['key'])
    await storage.update('key', (current) => ({ ...current, n: (current?.n ?? 0) + 1, [name]: (current?.[name] ?? 0) + 1 }), key)
    longest = Math.max(longest, performance.now() - before)
  }
}

await Promise.all(Array.from({ length: Number(concurrency) }, work))
await storage.close()
console.log(Math.round(longest))
