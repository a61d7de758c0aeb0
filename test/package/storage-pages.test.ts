import t from 'tap'
import { blobConnectionString, createCosmosContainer, createDatabase, startAzurite, startCosmos } from '../helpers/azure-servers.js'
import { bot, output, snippet } from '../helpers/pages.js'
import { poolOf, startPostgres } from '../helpers/postgres-server.js'

/** A bot that counts on a storage of a page, twice from the beginning; what its environment has comes first. */
const counting = (block: string, env: Record<string, string>) => bot({
  before: `${Object.entries(env).map(([name, value]) => `process.env.${name} = ${JSON.stringify(value)}`).join('\n')}\n${
    block.replace(/^import (\w+|\{ [^}]+ \}) from '(\S+)'$/gm, (_line, names: string, from: string) =>
      names === 'botasState' ? '' : `const ${names.startsWith('{') ? names : `{ default: ${names} }`} = await import('${from}')`)}`,
  routes: 'app.post(\'/api/messages\', async ({ state }) => ({ n: state.conversation.update(\'n\', (n = 0) => n + 1) }))',
  after: 'console.log((await say()).body)'
})

t.test('the pool of the page of Postgres works, with the table and the privileges of the page', async (t) => {
  const { url } = await startPostgres(t)
  const admin = poolOf(t, url)
  await admin.query(`CREATE ROLE operator LOGIN; ALTER SCHEMA public OWNER TO operator; ${snippet('postgres-table').replace('TO bot', 'TO operator')}`)
  const env = { DATABASE_URL: url.replace('bot@', 'operator@') }
  for (const n of [1, 2]) t.equal(await output(t, counting(snippet('postgres-pool'), env)), `{"n":${n}}\n`)
})

t.test('the container of the page of Blob Storage works', async (t) => {
  const { port } = await startAzurite(t)
  const env = { AZURE_STORAGE_CONNECTION_STRING: blobConnectionString(port) }
  for (const n of [1, 2]) t.equal(await output(t, counting(snippet('blob'), env)), `{"n":${n}}\n`)
})

t.test('the container of the page of Cosmos DB works', async (t) => {
  const { port } = await startCosmos(t)
  await createDatabase(port)
  await createCosmosContainer(port)
  const env = { COSMOS_ENDPOINT: `http://127.0.0.1:${port}`, COSMOS_KEY: Buffer.from('any').toString('base64') }
  for (const n of [1, 2]) t.equal(await output(t, counting(snippet('cosmos'), env)), `{"n":${n}}\n`)
})
