import t from 'tap'
import { PostgresStorage } from '../../../lib/storage/postgres/postgres-storage.js'
import { poolOf, startPostgres } from '../../helpers/postgres-server.js'
import { storageSuite } from '../../helpers/storage-suite.js'

const server = await startPostgres(t)
let tables = 0

t.test('with a URL', async (t) => {
  storageSuite(t, (_t, options) => new PostgresStorage(server.url, { ...options, table: `own_${tables++}` }))
})

t.test('with a pool of the user\'s', async (t) => {
  const pool = poolOf(t, server.url)
  storageSuite(t, (_t, options) => new PostgresStorage(pool, { ...options, table: `theirs_${tables++}` }))
})
