import { setTimeout as wait } from 'node:timers/promises'
import type { FastifyRequest } from 'fastify'
import t from 'tap'
import { activityIdentity } from '../../lib/index.js'
import { CONVERSATION_KEY, message } from '../helpers/activities.js'
import { buildFastify, post, settled } from '../helpers/build-fastify.js'
import { RecordingStorage } from '../helpers/recording-storage.js'

/** A GET is a turn of the same conversation. */
const identify = ({ method, body }: FastifyRequest) => activityIdentity(method === 'GET' ? message() : body)

t.test('a turn that is over refuses writes instead of losing them', async (t) => {
  const storage = new RecordingStorage()
  const { app, url } = await buildFastify(t, { storage }, (app) => {
    app.post('/', async ({ state }) => {
      state.conversation.set('n', 1)
      kept = state
      return {}
    })
  })
  let kept: FastifyRequest['state'] | undefined
  t.equal((await post(url, message())).status, 200)
  await settled(() => storage.count('update') > 0)
  const { conversation, user, temp } = kept as FastifyRequest['state']
  await settled(() => storage.count('update') === 1)
  const ended = { code: 'FST_BOTAS_STATE_TURN_ENDED', statusCode: 500 }
  for (const scope of [conversation, user, temp] as unknown as Array<typeof conversation>) {
    t.match(t.throws(() => scope.set('late', 1)), ended)
    t.match(t.throws(() => scope.update('late', () => 1)), ended)
    t.match(t.throws(() => scope.delete('late')), ended)
    t.match(t.throws(() => scope.clear()), ended)
  }
  t.match(t.throws(() => kept?.setValue('user.late', 1)), ended)
  t.match(t.throws(() => kept?.deleteConversationState()), ended)
  t.equal(conversation.get('n'), 1, 'reading goes on')
  await app.close()
  t.strictSame(await storage.stored(CONVERSATION_KEY), { n: 1 })
})

t.test('a handler that goes on after its timeout cannot write any more', async (t) => {
  const storage = new RecordingStorage()
  const late: unknown[] = []
  const { app, url } = await buildFastify(t, { storage, identify }, (app) => {
    app.get('/', { handlerTimeout: 30 }, async ({ state }) => {
      state.conversation.set('n', 1)
      await wait(100)
      try {
        state.conversation.set('n', 2)
      } catch (error) {
        late.push(error)
      }
    })
  })
  t.equal((await fetch(url)).status, 503)
  await settled(() => late.length > 0)
  t.match(late, [{ code: 'FST_BOTAS_STATE_FAILED', statusCode: 500, message: /botasState\.run/, cause: { code: 'FST_ERR_HANDLER_TIMEOUT' } }])
  await app.close()
  t.equal(storage.count('update'), 0)
})

t.test('temp goes on after the state is stored, for the hooks that come then', async (t) => {
  const { url } = await buildFastify(t, { flush: 'onSend' }, (app) => {
    app.addHook('onResponse', async ({ state }) => {
      state.temp.set('done', true)
      t.match(t.throws(() => state.conversation.set('n', 2)), { code: 'FST_BOTAS_STATE_TURN_ENDED' })
    })
    app.post('/', async ({ state }) => { state.conversation.set('n', 1) })
  })
  t.equal((await post(url, message())).status, 200)
})
