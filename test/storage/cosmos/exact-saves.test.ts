import t from 'tap'
import { exactSavesSuite } from '../../helpers/exact-saves-suite.js'
import { testedServers } from '../../helpers/tested-servers.js'

exactSavesSuite(t, testedServers['Azure Cosmos DB'], { remembersRemovals: false, runs: 50 })
