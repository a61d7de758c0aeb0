import { CosmosClient } from '@azure/cosmos'
import { CosmosDbStorage } from 'fastify-botas-state/cosmos'
import { buildCounterBot } from '../counter-bot/counter-bot.js'
import { firstMessage } from '../first-message.js'
import { serve } from '../serve.js'

// By default an emulator on this machine: npx -y -p @vercel/cosmosdb-server cosmosdb-server -p 8081 --no-ssl
const { COSMOS_ENDPOINT: endpoint = 'http://localhost:8081', COSMOS_KEY: key = 'any key for an emulator' } = process.env
const client = new CosmosClient({
  endpoint,
  key,
  connectionPolicy: { retryOptions: { maxRetryAttemptCount: 0 }, ...(endpoint.startsWith('https:') ? {} : { enableEndpointDiscovery: false }) }
})
const { database } = await client.databases.createIfNotExists({ id: 'bot' })
const { container } = await database.containers.createIfNotExists({ id: 'state', partitionKey: { paths: ['/id'], version: 2 }, defaultTtl: -1 })

await serve(await buildCounterBot({ storage: new CosmosDbStorage(container), flush: 'onSend' }), { path: '/api/messages', body: firstMessage })
