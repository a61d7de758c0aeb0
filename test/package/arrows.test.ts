import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { shellEnvironment } from '../helpers/node-process.js'

/** What a file may not import: there is no arrow from its folder to that one, or the import hides where it leads. */
const forbidden: Array<[file: string, code: string]> = [
  ['lib/document/x.ts', "import { Turn } from '../turn/turn.js'"],
  ['lib/document/x.ts', "import { Turn } from './../turn/turn.js'"],
  ['lib/document/x.ts', "import { Turn } from 'fastify-botas-state'"],
  ['lib/document/x.ts', "export * from '../state/path.js'"],
  ['lib/document/x.ts', "const turn = await import('../turn/turn.js')"],
  ['lib/document/x.ts', "type Turn = import('../turn/turn.js').Turn"],
  ['lib/document/deep/x.ts', "import { Turn } from '../../turn/turn.js'"],
  ['lib/state/x.ts', "import { Turn } from '../turn/turn.js'"],
  ['lib/state/x.ts', "import type { IncomingMessage } from 'node:http'"],
  ['lib/turn/x.ts', "import type { FastifyRequest } from 'fastify'"],
  ['lib/turn/x.ts', "import { TurnRequest } from '../fastify/turn-request.js'"],
  ['lib/turn/x.ts', "import { FileStorage } from '../storage/file/file-storage.js'"],
  ['lib/fastify/x.ts', "import { FileStorage } from '../storage/file/file-storage.js'"],
  ['lib/fastify/x.ts', "import { FileStorage } from '../turn/../storage/file/file-storage.js'"],
  ['lib/storage/x.ts', "import { RedisStorage } from './redis/redis-storage.js'"],
  ['lib/storage/redis/x.ts', "import { FileStorage } from '../file/file-storage.js'"],
  ['lib/storage/redis/x.ts', "import { openStorage } from '../open-storage.js'"],
  ['lib/storage/redis/x.ts', "import { Turn } from '../../turn/turn.js'"],
  ['lib/storage/file/x.ts', "import type { Redis } from 'ioredis'"],
  ['lib/storage/file/x.ts', "import type { Driver } from '../driver/driver.js'"],
  ['lib/storage/driver/x.ts', "import { query } from '../postgres/pool.js'"],
  ['lib/storage/blob/x.ts', "import { query } from '../postgres/pool.js'"],
  ['lib/storage/blob/x.ts', "import type { ContainerClient } from '@azure/storage-blob'"],
  ['lib/storage/postgres/x.ts', "import type { Pool } from 'pg'"],
  ['lib/inspector/x.ts', "import { botasState } from '../plugin.js'"],
  ['lib/inspector/x.ts', "import { FileStorage } from '../storage/file/file-storage.js'"],
  ['lib/turn/x.ts', "import { InspectedTurn } from '../inspector/inspected-turn.js'"],
  ['lib/waiting/x.ts', "import { TextDocument } from '../document/text-document.js'"],
  ['lib/new-folder/x.ts', "import { TextDocument } from '../document/text-document.js'"],
  ['lib/errors.ts', "import { Turn } from './turn/turn.js'"]
]

const allowed: Array<[file: string, code: string]> = [
  ['lib/plugin.ts', "import { Turns } from './turn/turns.js'"],
  ['lib/fastify/x.ts', "import { Turn } from '../turn/turn.js'"],
  ['lib/inspector/x.ts', "import { Turns } from '../turn/turns.js'"],
  ['lib/turn/x.ts', "import { documentStoreOf } from '../storage/document-store.js'"],
  ['lib/storage/redis/x.ts', "import type { Storage } from '../storage.js'"],
  ['lib/storage/postgres/x.ts', "import type { Driver } from '../driver/driver.js'"],
  ['lib/document/x.ts', "import { FST_BOTAS_STATE_INVALID_ID } from '../errors.js'"],
  ['lib/document/x.ts', "import { isUtf8 } from 'node:buffer'"]
]

const RULES = ['no-restricted-imports', 'no-restricted-syntax']
const LINT = fileURLToPath(new URL('../processes/lint.js', import.meta.url))

t.test('lint refuses an import against the arrows of the house, and no other', async (t) => {
  const cases = [...forbidden, ...allowed]
  const refusals: string[][] = JSON.parse(execFileSync(process.execPath, [LINT, JSON.stringify(cases)], { env: shellEnvironment, encoding: 'utf8' }))
  t.equal(refusals.length, cases.length)
  for (const [index, [file, code]] of cases.entries()) {
    const refused = refusals[index]?.some((rule) => RULES.includes(rule))
    t.equal(refused, index < forbidden.length, `${file}: ${code}`)
  }
})
