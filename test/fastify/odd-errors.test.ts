import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import botasState, { MemoryStorage } from '../../lib/index.js'
import { message } from '../helpers/activities.js'

/** What is thrown may be anything. */
const odd: Record<string, () => unknown> = {
  'an error whose code has a getter that throws': () => Object.defineProperty(new Error('odd'), 'code', { get () { throw new Error('no code') } }),
  'an error without prototype': () => Object.setPrototypeOf(new Error('odd'), null),
  'a text': () => 'odd',
  'an object with a getter that throws': () => ({ get message () { throw new Error('no message') } })
}

async function answer (app: FastifyInstance, thrown: () => unknown): Promise<{ status: number, body: string }> {
  app.post('/', async (request) => {
    (request as { state?: { user: { set (name: string, value: number): void } } }).state?.user.set('n', 1)
    throw thrown()
  })
  const { statusCode, body } = await app.inject({ method: 'POST', url: '/', payload: message() })
  await app.close()
  return { status: statusCode, body }
}

for (const [name, thrown] of Object.entries(odd)) {
  t.test(`${name} is answered as by Fastify alone, and fails the turn`, async (t) => {
    const storage = new MemoryStorage()
    const app = Fastify()
    app.register(botasState, { storage })
    t.strictSame(await answer(app, thrown), await answer(Fastify(), thrown))
    t.strictSame(await storage.read(['test/bot/users/user-1']), {})
  })
}
