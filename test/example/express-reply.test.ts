import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { type ExpressReply, expressReply } from '../../example/express-reply.js'

/** Calls a handler as Express would, on a server whose replies pass a hook that takes its time. */
async function answerOf (t: Test, handler: (response: ExpressReply) => unknown) {
  const log: string[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line) => { log.push(line) } } } })
  t.teardown(() => app.close())
  app.addHook('onSend', async () => { await new Promise((resolve) => setImmediate(resolve)) })
  app.get('/', async (_request, reply) => {
    await handler(expressReply(reply))
    return reply
  })
  const { statusCode, headers, body } = await app.inject('/')
  t.strictSame(log, [])
  return { statusCode, type: headers['content-type'], body, headers }
}

t.test('an object is sent as JSON, and the end that comes after it is none of its own', async (t) => {
  t.match(await answerOf(t, (response) => {
    response.status(201).setHeader('content-type', 'application/json')
    response.send({ activities: [] })
    response.end()
  }), { statusCode: 201, type: /^application\/json/, body: '{"activities":[]}' })
})

t.test('a text is sent as it is', async (t) => {
  t.match(await answerOf(t, (response) => { response.status(500).send('no').end() }), { statusCode: 500, type: /^text\/plain/, body: 'no' })
})

t.test('an end without a body is an empty reply', async (t) => {
  t.match(await answerOf(t, (response) => { response.status(202).end() }), { statusCode: 202, type: undefined, body: '' })
})

t.test('headers are set by both names', async (t) => {
  t.match(await answerOf(t, (response) => { response.header('x-one', '1').setHeader('x-two', '2').end() }), { headers: { 'x-one': '1', 'x-two': '2' } })
})

t.test('it says when the reply is sent, at once', async (t) => {
  await answerOf(t, (response) => {
    t.match(response, { headersSent: false, writableEnded: false })
    response.send('yes')
    t.match(response, { headersSent: true, writableEnded: true })
  })
})

t.test('where something else has replied, it sends nothing more', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.get('/', (_request, reply) => {
    const response = expressReply(reply)
    reply.send('first')
    t.match(response, { headersSent: true, writableEnded: true })
    response.send('second').end()
  })
  t.match(await app.inject('/'), { statusCode: 200, body: 'first' })
})

t.test('a client that has left does no harm', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  const done = new Promise<void>((resolve) => {
    app.get('/', async (_request, reply) => {
      await new Promise((resolve) => reply.raw.once('close', resolve))
      expressReply(reply).status(200).send({ activities: [] }).end()
      resolve()
      return reply
    })
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  await t.rejects(fetch(url, { signal: AbortSignal.timeout(100) }))
  await done
})
