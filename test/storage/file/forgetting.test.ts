import { readFileSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { FileStorage } from '../../../lib/index.js'
import { forgettingSuite } from '../../helpers/forgetting-suite.js'

for (const once of [true, false]) {
  t.test(`once: ${once}`, async (t) => forgettingSuite(t, async (t) => {
    const directory = t.testdir()
    return { storage: new FileStorage(directory), everything: async () => filesIn(directory) }
  }, { once }))
}

function filesIn (directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .map((name) => statSync(join(directory, name)).isFile() ? `${name} ${readFileSync(join(directory, name), 'utf8')}` : name)
}
