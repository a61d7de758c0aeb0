import { type TestedApp, turnsOf } from './tested-app.js'
import { testedStorageOf } from './tested-storage.js'

/**
 * Makes the next load, or the next save, of a server fail as if its storage had failed: nothing of it reaches the storage. Called
 * twice, it makes two of them fail. The turns that are open now are over before.
 *
 * @example
 * await failNext(app, 'save')
 * assert.equal((await ada.says('Hi')).statusCode, 500)    // with flush: 'onSend'
 *
 * @param app with the plugin
 * @param kind a turn that changes nothing saves nothing
 * @throws where turns are still open after `flushTimeout`
 */
export async function failNext (app: TestedApp, kind: 'load' | 'save'): Promise<void> {
  const turns = await turnsOf(app)
  await turns.over()
  testedStorageOf(turns).failures[kind]++
}
