import t from 'tap'
import { processSuite } from '../../helpers/process-suite.js'
import { testedServers } from '../../helpers/tested-servers.js'

processSuite(t, testedServers['Azure Blob Storage'])
