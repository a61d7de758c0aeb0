// One server of the benchmark, in a process of its own. Its argument is the name of a variant, and the environment says
// where REDIS and the DIRECTORY are. Sends its port to the process that started it, and its CPU time whenever asked.
import { variants } from './variants.js'

const app = await variants[process.argv[2]](process.env)
await app.listen({ host: '127.0.0.1', port: 0 })
process.on('message', () => {
  const { user, system } = process.cpuUsage()
  process.send({ cpu: user + system })
})
process.send({ port: app.server.address().port })
