import t from 'tap'
import { message } from '../helpers/activities.js'
import { buildFastify, post } from '../helpers/build-fastify.js'
import { RecordingStorage } from '../helpers/recording-storage.js'

t.test('a conversation and a user are remembered from turn to turn', async (t) => {
  const storage = new RecordingStorage()
  const { url } = await buildFastify(t, { storage }, (app) => {
    app.post('/', async ({ state: { conversation, user, temp } }) => {
      const turn = conversation.update<number>('turnCount', (n) => (n ?? 0) + 1)
      const messages = user.update<number>('messages', (n) => (n ?? 0) + 1)
      temp.set('reply', `${turn}, ${messages}`)
      return { text: temp.get('reply') }
    })
  })
  t.strictSame((await post(url, message())).body, { text: '1, 1' })
  t.strictSame((await post(url, message())).body, { text: '2, 2' })
  t.strictSame((await post(url, message({ user: 'user-2' }))).body, { text: '3, 1' })
  t.strictSame((await post(url, message({ conversation: 'conversation-2' }))).body, { text: '1, 3' })
  t.strictSame((await post(url, { ...message(), channelId: 'other' })).body, { text: '1, 1' })
  t.strictSame((await post(url, { ...message(), recipient: { id: 'other' } })).body, { text: '1, 1' })
})
