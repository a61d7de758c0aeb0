import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'

const { HOST = 'localhost', PORT = '3978' } = process.env

/** Where the bots have it that show what they remember. */
const INSPECTOR = '/inspector'

/** A request to try the bot with. */
interface Trial {
  /** of curl, beside the usual ones */
  options?: string
  path: string
  body: object
}

/** Listens, says how to talk to the bot, and shuts down cleanly on SIGINT and SIGTERM. */
export async function serve (bot: FastifyInstance, trial: Trial): Promise<void> {
  const unused = new Set<Socket>()
  bot.server.on('connection', (socket) => {
    unused.add(socket)
    socket.once('close', () => unused.delete(socket))
  })
  bot.server.on('request', ({ socket }) => unused.delete(socket))
  // npm passes on a signal that the terminal sent to the bot as well: the second one is no more than a repetition.
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.on(signal, () => {
      // A client may keep its connection open; the server closes it as soon as its last reply has left.
      bot.server.keepAliveTimeout = 1
      bot.close()
      // For a first request, from a browser that connected ahead for instance, Node would wait without end.
      for (const socket of unused) socket.destroy()
    })
  }
  try {
    await bot.listen({ host: HOST, port: Number(PORT) })
  } catch (error) {
    console.error(`The bot cannot listen on HOST=${HOST} PORT=${PORT}: ${(error as Error).message}`)
    process.exitCode = 1
    await bot.close()
    return
  }
  const { port } = bot.server.address() as { port: number }
  console.log(`Say hello: ${curl(`http://${HOST}:${port}${trial.path}`, trial)}`)
  if (bot.hasRoute({ method: 'GET', url: INSPECTOR })) console.log(`See what it remembers: http://localhost:${port}${INSPECTOR}`)
}

function curl (url: string, { options, body }: Trial): string {
  return ['curl', options, url, '-H \'content-type: application/json\'', `-d '${JSON.stringify(body)}'`].filter(Boolean).join(' ')
}
