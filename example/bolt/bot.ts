import { App, HTTPModuleFunctions, type Receiver, type StringIndexed } from '@slack/bolt'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import botasState, { type Storage, type TurnState } from 'fastify-botas-state'
import { answer } from '../answer.js'

const { parseAndVerifyHTTPRequest, parseHTTPRequestBody, extractRetryNumFromHTTPRequest } = HTTPModuleFunctions

/** A bot of Bolt behind Fastify. Without SLACK_SIGNING_SECRET everybody may post events. */
export async function buildBot (storage: Storage | string, env: NodeJS.ProcessEnv = process.env): Promise<FastifyInstance> {
  const { SLACK_BOT_TOKEN: token = '', SLACK_SIGNING_SECRET: signingSecret = '', SLACK_API_URL: slackApiUrl = 'https://slack.com/api/' } = env
  const fastify = Fastify({ logger: { level: 'warn' } })
  // Slack waits 3 seconds for an acknowledgement. A turn may wait longer for those before it, so it begins afterwards, below.
  await fastify.register(botasState, { storage, identify: () => undefined, concurrency: 'queue', once: true })

  const parse = (request: FastifyRequest, rawBody: Buffer): Promise<StringIndexed> =>
    parseAndVerifyHTTPRequest({ enabled: signingSecret !== '', signingSecret }, Object.assign(request.raw, { rawBody }))
      .then(parseHTTPRequestBody)
      .catch((error) => { throw Object.assign(error, { statusCode: error instanceof SyntaxError ? 400 : 401 }) })
  const receiver: Receiver = {
    init (app) {
      fastify.addContentTypeParser(['application/json', 'application/x-www-form-urlencoded'], { parseAs: 'buffer' }, parse)    // the raw body is signed
      fastify.post<{ Body: StringIndexed }>('/slack/events', { schema: { body: { type: 'object' } } }, async ({ body, raw }, reply) => {
        if (body.type === 'url_verification') return { challenge: body.challenge }
        const retryNum = extractRetryNumFromHTTPRequest(raw) ?? 0
        await app.processEvent({ body, retryNum, ack: async (response) => { reply.send(response) } })
        if (!reply.sent) reply.code(404).send()
      })
    },
    start: (options) => fastify.listen(options),
    stop: () => fastify.close()
  }
  const app = new App<{ state: TurnState }>({ receiver, token, clientOptions: { slackApiUrl }, convoStore: false, deferInitialization: true })
  await app.init()

  // For events, which Bolt has acknowledged by now. A command, an action or a view is acknowledged by its listener, which calls `run` then.
  app.use(async ({ body, context, next }) => {
    const { type, api_app_id: botId, event_id: activityId, event }: StringIndexed = body
    if (type !== 'event_callback') return next()
    const identity = { channelId: 'slack', botId, conversationId: event.channel?.id ?? event.channel, userId: context.userId, activityId }
    await fastify.botasState.run(identity, (state) => {
      context.state = state
      return next()
    })
  })
  app.message(async ({ message, say, context }) => {
    if (message.subtype === undefined) await say(await answer(context.state, message.text ?? ''))
  })
  // Slack has its acknowledgement, and will not deliver the event again.
  app.error(async (error) => fastify.log.error(error.original ?? error))
  return fastify
}
