// A bot on files with a storage that takes its time, which closes on SIGTERM. Arguments: the directory, the slow phase
// (load, handler or flush), and whether to force connections closed. Prints its port, and the phase when it is reached.
import { setTimeout as wait } from 'node:timers/promises'
import Fastify from 'fastify'
import botasState, { FileStorage } from 'fastify-botas-state'

const [directory, phase, force] = process.argv.slice(2)
const SLOW = 300

class SlowStorage extends FileStorage {
  async read (keys) {
    await pause('load')
    return super.read(keys)
  }

  async update (...change) {
    await pause('flush')
    return super.update(...change)
  }
}

async function pause (name) {
  if (name !== phase) return
  console.log(name)
  await wait(SLOW)
}

const app = Fastify({ forceCloseConnections: force === 'true' })
await app.register(botasState, { storage: new SlowStorage(directory) })
app.post('/', async ({ state: { conversation } }) => {
  await pause('handler')
  conversation.set('kept', true)
  return {}
})
process.once('SIGTERM', () => app.close())
await app.listen({ host: '127.0.0.1', port: 0 })
console.log(app.server.address().port)
