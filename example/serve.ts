import type { FastifyInstance } from 'fastify'

const { HOST = 'localhost', PORT = '3978' } = process.env

/** Listens, says how to talk to the bot, and shuts down cleanly on SIGINT and SIGTERM. */
export async function serve (bot: FastifyInstance): Promise<void> {
  // npm passes on a signal that the terminal sent to the bot as well: the second one is no more than a repetition.
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.on(signal, () => {
      // A client may keep its connection open; the server closes it as soon as its last reply has left.
      bot.server.keepAliveTimeout = 1
      bot.close()
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
  console.log(`Say hello: ${curl(`http://${HOST}:${port}/api/messages`)}`)
}

function curl (url: string): string {
  const activity = {
    type: 'message',
    id: '1',
    text: 'How are you?',
    channelId: 'test',
    from: { id: 'user-123' },
    recipient: { id: 'bot' },
    conversation: { id: 'conversation-1' },
    deliveryMode: 'expectReplies'
  }
  return `curl ${url} -H 'content-type: application/json' -d '${JSON.stringify(activity)}'`
}
