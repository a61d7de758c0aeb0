import { FileStorage, type Storage } from 'fastify-botas-state'
import type { Talk } from 'fastify-botas-state/testing'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { settled } from './build-fastify.js'
import { LeasingStorage, newServer } from './leasing-storage.js'

/** A bot of an SDK, and somebody who talks to it through a channel. */
export interface SdkBot {
  app: FastifyInstance
  ada: Talk
  /** the texts that the channel got from the bot, in this order */
  sent: string[]
}

/** What every example with an SDK shows. */
export function sdkSuite (start: (t: Test, storage: Storage) => Promise<SdkBot>): void {
  t.test('it answers, and remembers after a restart', async (t) => {
    const directory = t.testdir()
    const before = await start(t, new FileStorage(directory))
    await before.ada.says('Hi')
    await got(t, before, ['Turn #1: Hi'])
    await before.app.close()
    const after = await start(t, new FileStorage(directory))
    await after.ada.says('Hi again')
    await got(t, after, ['Turn #2: Hi again'])
    t.strictSame(await after.ada.state(), { conversation: { turnCount: 2 }, user: { lastWords: 'Hi again' } })
  })

  t.test('two messages at once are both answered and both counted, one after the other', async (t) => {
    const bot = await start(t, new LeasingStorage(newServer(), 10))
    await bot.ada.saysAtOnce(['slow', 'Hi'])
    await got(t, bot, ['Turn #1: slow', 'Turn #2: Hi'])
    t.match(await bot.ada.state(), { conversation: { turnCount: 2 } })
  })

  t.test('a handler that throws stores nothing, and the bot lives on', async (t) => {
    const bot = await start(t, new LeasingStorage(newServer(), 10))
    await bot.ada.says('Hi')
    await bot.ada.says('fail')
    t.strictSame(await bot.ada.state(), { conversation: { turnCount: 1 }, user: { lastWords: 'Hi' } })
    await bot.ada.says('Hi again')
    t.strictSame(await bot.ada.state(), { conversation: { turnCount: 2 }, user: { lastWords: 'Hi again' } })
  })

  t.test('a slow handler stores all of its turn, also where the client leaves', async (t) => {
    const bot = await start(t, new LeasingStorage(newServer(), 10))
    await bot.ada.leavesDuring('slow')
    t.strictSame(await bot.ada.state(), { conversation: { turnCount: 1 }, user: { lastWords: 'slow' } })
    await bot.ada.says('Hi')
    await got(t, bot, ['Turn #1: slow', 'Turn #2: Hi'])
  })

  t.test('a message that is delivered again is handled once', async (t) => {
    const bot = await start(t, new LeasingStorage(newServer(), 10))
    await bot.ada.says('Hi')
    await bot.ada.redelivers()
    await bot.ada.says('Hi again')
    await got(t, bot, ['Turn #1: Hi', 'Turn #2: Hi again'])
    t.match(await bot.ada.state(), { conversation: { turnCount: 2 } })
  })

  async function got (t: Test, { sent }: SdkBot, texts: string[]): Promise<void> {
    await settled(() => sent.length >= texts.length)
    t.strictSame(sent, texts)
  }
}
