import { setTimeout as wait } from 'node:timers/promises'

/** A message as language models take them. */
export interface ChatMessage {
  role: 'user' | 'assistant'
  content: string
}

/** How long the model takes for a word, in milliseconds. */
const WORD_TIME = 30

/** Answers word by word, as a language model does, but knows no more than what was said. */
export async function * pretendModel (messages: ChatMessage[]): AsyncGenerator<string> {
  const said = messages.filter(({ role }) => role === 'user').map(({ content }) => content)
  for (const word of answerTo(said).split(/(?<= )/)) {
    await wait(WORD_TIME)
    yield word
  }
  if (said.at(-1) === 'fail') throw new Error('The model broke off, as it was asked to: nothing of this turn is saved')
}

function answerTo (said: string[]): string {
  return said.length === 1
    ? `Pleased to meet you. You said: ${said[0]}`
    : `I remember ${said.length} things that you said. It began with: ${said[0]}`
}
