import t from 'tap'
import { PostgresStorage } from '../../../lib/storage/postgres/postgres-storage.js'
import { encryptedAs, encryptedServer } from '../../helpers/encryption.js'
import { exactSavesSuite } from '../../helpers/exact-saves-suite.js'
import { outageSuite } from '../../helpers/outage-suite.js'
import { processSuite } from '../../helpers/process-suite.js'
import { freshTable } from '../../helpers/shared-servers.js'
import { storageSuite } from '../../helpers/storage-suite.js'
import { testedServers } from '../../helpers/tested-servers.js'

const newServer = encryptedServer(testedServers.Postgres)

t.test('encrypted it keeps what every storage promises', async (t) => storageSuite(t, async (_t, options) => {
  const { url, table } = await freshTable()
  return encryptedAs(new PostgresStorage(url, { table, ...options }))
}))
t.test('encrypted: outages', async (t) => outageSuite(t, 'Postgres', newServer))
t.test('encrypted: exact saves', async (t) => exactSavesSuite(t, newServer, { remembersRemovals: true }))
t.test('encrypted: processes', async (t) => processSuite(t, newServer))
