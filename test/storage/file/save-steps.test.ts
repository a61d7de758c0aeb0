import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { FileStorage } from '../../../lib/index.js'

t.test('what a killed process had decided to save is done before anything is read, and what it had not is not', async (t) => {
  const directory = t.testdir({
    'changed.json': '{"n":1}',
    'removed.json': '{"n":1}',
    '=dead-0.tmp': '{"n":2}',
    '=dead-1.tmp': '{"n":3}',
    '=dead-2.save': JSON.stringify([['=dead-0.tmp', 'changed.json'], [null, 'removed.json'], ['=dead-9.tmp', 'in its place already.json']]),
    '=dead-3.save': '[["=dead-1.tmp", "undecided'
  })
  const storage = new FileStorage(directory)
  t.strictSame(await storage.read(['changed', 'removed', 'undecided']), { changed: { n: 2 } })
  await storage.close()
  t.strictSame(readdirSync(directory), ['changed.json'])
})

t.test('of a save that cannot be prepared nothing is done', async (t) => {
  const directory = t.testdir({ 'c%2Fb%2Fusers%2Fu.json': {} })
  const storage = new FileStorage(directory)
  writeFileSync(join(directory, 'kept.json'), '{"n":1}')
  await t.rejects(storage.update('c/b/users/u', () => ({ n: 1 })), { code: 'FST_BOTAS_STATE_CORRUPT_DOCUMENT' })
  t.equal(readFileSync(join(directory, 'kept.json'), 'utf8'), '{"n":1}')
  t.notOk(existsSync(join(directory, '=handled')))
})
