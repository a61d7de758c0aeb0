import { FileStorage } from 'fastify-botas-state'
import { firstMessage } from '../first-message.js'
import { serve } from '../serve.js'
import { type Deployment, buildVisitorBot } from './bot.js'
import { v1 } from './state-v1.js'
import { v2 } from './state-v2.js'
import { v3 } from './state-v3.js'

const deployments = new Map<string, Deployment>([['1', v1], ['2', v2], ['3', v3]])
const { VERSION = '3', STATE_STORAGE } = process.env
const deployment = deployments.get(VERSION)

if (deployment === undefined) {
  console.error(`VERSION must be 1, 2 or 3, got ${VERSION}`)
  process.exitCode = 1
} else {
  const bot = await buildVisitorBot(STATE_STORAGE || new FileStorage('./state-data/versions'), deployment)
  await serve(bot, { path: '/api/messages', body: { ...firstMessage, text: 'I am Ada Lovelace' } })
}
