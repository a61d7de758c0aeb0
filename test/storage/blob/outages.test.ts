import t from 'tap'
import { outageSuite } from '../../helpers/outage-suite.js'
import { testedServers } from '../../helpers/tested-servers.js'

outageSuite(t, 'Azure Blob Storage', testedServers['Azure Blob Storage'])
