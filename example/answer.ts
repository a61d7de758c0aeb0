import { setTimeout as wait } from 'node:timers/promises'
import type { TurnState } from 'fastify-botas-state'

/** How long an answer takes that is asked to be slow, in milliseconds. */
const SLOW = 500

/** What the bots of this folder answer: "slow" takes its time, and "fail" throws after it has changed the state. */
export async function answer ({ conversation, user }: TurnState, text: string): Promise<string> {
  const turn = conversation.update<number>('turnCount', (count = 0) => count + 1)
  user.set('lastWords', text)
  if (text === 'slow') await wait(SLOW)
  if (text === 'fail') throw new Error('The bot failed, as it was asked to: nothing of this turn is saved')
  return `Turn #${turn}: ${text}`
}
