import t from 'tap'
import { MemoryStorage } from '../../../lib/index.js'
import { forgettingSuite } from '../../helpers/forgetting-suite.js'

forgettingSuite(t, async () => ({ storage: new MemoryStorage() }))
