import { BlobServiceClient } from '@azure/storage-blob'
import { BlobStorage } from 'fastify-botas-state/blob'
import { buildCounterBot } from '../counter-bot/counter-bot.js'
import { firstMessage } from '../first-message.js'
import { serve } from '../serve.js'

// By default Azurite on this machine: npx -y -p azurite azurite-blob --skipApiVersionCheck
const { AZURE_STORAGE_CONNECTION_STRING = 'UseDevelopmentStorage=true' } = process.env
const container = BlobServiceClient.fromConnectionString(AZURE_STORAGE_CONNECTION_STRING, { retryOptions: { maxTries: 1 } }).getContainerClient('bot-state')
await container.createIfNotExists()

await serve(await buildCounterBot({ storage: new BlobStorage(container), flush: 'onSend' }), { path: '/api/messages', body: firstMessage })
