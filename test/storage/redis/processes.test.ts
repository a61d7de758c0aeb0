import t from 'tap'
import { processSuite } from '../../helpers/process-suite.js'
import { testedServers } from '../../helpers/tested-servers.js'

processSuite(t, testedServers.Redis, { messages: 100, processes: 4, conversations: 8, lease: 600 })
