import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { type BotProcess, startExample } from '../helpers/bot-process.js'

const CHAT_BOT = 'chat-history/main.ts'

/** Says something, and gives the answer as it comes in. */
async function ask (bot: BotProcess, text: string, signal?: AbortSignal): Promise<AsyncIterable<string>> {
  const activity = { type: 'message', text, channelId: 'test', recipient: { id: 'bot' }, conversation: { id: 'c' }, from: { id: 'u' } }
  const { body } = await fetch(bot.url, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(activity), ...signal && { signal }
  })
  return (body as ReadableStream).pipeThrough(new TextDecoderStream())
}

async function answerTo (bot: BotProcess, text: string): Promise<string> {
  let answer = ''
  for await (const token of await ask(bot, text)) answer += token
  return answer
}

t.test('a chat bot shows its model the history, also after a restart', async (t) => {
  const directory = t.testdir()
  const bot = await startExample(t, CHAT_BOT, directory)
  t.equal(await answerTo(bot, 'How are you?'), 'Pleased to meet you. You said: How are you?\n')
  t.equal(await answerTo(bot, 'And now?'), 'I remember 2 things that you said. It began with: How are you?\n')
  t.equal(await bot.stop(), 0)

  const restarted = await startExample(t, CHAT_BOT, directory)
  t.equal(await answerTo(restarted, 'Still?'), 'I remember 3 things that you said. It began with: How are you?\n')
  t.equal(await answerTo(restarted, 'forget'), 'I have forgotten what we said.\n')
  t.equal(await answerTo(restarted, 'Who am I?'), 'Pleased to meet you. You said: Who am I?\n')
  await restarted.stop()
})

t.test('an answer comes word by word', async (t) => {
  const bot = await startExample(t, CHAT_BOT, t.testdir())
  const words: string[] = []
  for await (const word of await ask(bot, 'Hi')) words.push(word)
  t.ok(words.length > 3, `${words.length} pieces`)
  t.equal(words[0], 'Pleased ')
  await bot.stop()
})

t.test('nothing is kept of an answer that breaks off', async (t) => {
  const bot = await startExample(t, CHAT_BOT, t.testdir())
  await answerTo(bot, 'Hi')
  await t.rejects(answerTo(bot, 'fail'))
  t.equal(await answerTo(bot, 'And now?'), 'I remember 2 things that you said. It began with: Hi\n')
  await bot.stop()
})

t.test('nothing is kept of an answer whose client leaves', async (t) => {
  const bot = await startExample(t, CHAT_BOT, t.testdir())
  await answerTo(bot, 'Hi')
  const client = new AbortController()
  const words = (await ask(bot, 'Never mind', client.signal))[Symbol.asyncIterator]()
  t.strictSame(await words.next(), { value: 'I ', done: false })
  client.abort()
  await t.rejects(words.next(), { name: 'AbortError' })
  t.equal(await answerTo(bot, 'And now?'), 'I remember 2 things that you said. It began with: Hi\n')
  await bot.stop()
})

t.test('the history does not grow for ever', async (t) => {
  const directory = t.testdir()
  const bot = await startExample(t, CHAT_BOT, directory)
  for (let n = 1; n <= 12; n++) await answerTo(bot, `Message ${n}`)
  t.equal(await answerTo(bot, 'And?'), 'I remember 11 things that you said. It began with: Message 3\n')
  t.equal(await bot.stop(), 0)
  const [name] = await readdir(join(directory, 'state-data/chat')) as [string]
  const { history } = JSON.parse(await readFile(join(directory, 'state-data/chat', name), 'utf8'))
  t.equal(history.length, 20)
  t.strictSame(history.at(-2), { role: 'user', content: 'And?' })
})
