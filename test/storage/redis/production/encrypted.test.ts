import t from 'tap'
import { encryptedServer } from '../../../helpers/encryption.js'
import { exactSavesSuite } from '../../../helpers/exact-saves-suite.js'
import { outageSuite } from '../../../helpers/outage-suite.js'
import { processSuite } from '../../../helpers/process-suite.js'
import { testedServers } from '../../../helpers/tested-servers.js'

const newServer = encryptedServer(testedServers.Redis)

t.test('encrypted: outages', async (t) => outageSuite(t, 'Redis', newServer))
t.test('encrypted: exact saves', async (t) => exactSavesSuite(t, newServer, { remembersRemovals: true }))
t.test('encrypted: processes', async (t) => processSuite(t, newServer))
