import { type KeyObject, generateKeyPairSync, sign } from 'node:crypto'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { listen } from './build-fastify.js'

/** What a bot replies. */
export interface Reply {
  type: string
  text?: string
  replyToId?: string
}

/** A stand-in for the Bot Connector, by which bots send what they say. */
export interface BotConnector {
  url: string
  /** what it got, in this order */
  replies: Reply[]
  /** their texts */
  sent: string[]
  /** what its requests brought along as `authorization` */
  authorizations: Array<string | undefined>
}

/** @param status that it answers with */
export async function startBotConnector (t: Test, status = 200): Promise<BotConnector> {
  const connector = { replies: [] as Reply[], sent: [] as string[], authorizations: [] as Array<string | undefined> }
  const app = server(t)
  for (const path of ['activities', 'activities/:activity']) {
    app.post<{ Body: Reply }>(`/v3/conversations/:conversation/${path}`, async ({ body, headers }, reply) => {
      reply.code(status)
      connector.replies.push(body)
      if (body.text !== undefined) connector.sent.push(body.text)
      connector.authorizations.push(headers.authorization)
      return { id: `${connector.replies.length}` }
    })
  }
  const { url } = await listen(app)
  return { url, ...connector }
}

/** A stand-in for who issues the tokens with which channels post activities. */
export interface TokenIssuer {
  url: string
  /** a header with a token that is valid for an hour, or, with another `key`, a forged one */
  authorization: (claims: object, key?: KeyObject) => { authorization: string }
}

/** Its keys are where OpenID's configuration says, and where Entra has those of a tenant. */
export async function startTokenIssuer (t: Test): Promise<TokenIssuer> {
  const { publicKey, privateKey } = rsaKeys()
  const app = server(t)
  const keys = { keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'key', use: 'sig', alg: 'RS256' }] }
  app.get('/.well-known/openid-configuration', async () => ({ jwks_uri: `${url}/keys` }))
  app.get('/keys', async () => keys)
  app.get('/:tenant/discovery/v2.0/keys', async () => keys)
  const { url } = await listen(app)
  return {
    url,
    authorization: (claims, key = privateKey) => {
      const now = Math.floor(Date.now() / 1000)
      return { authorization: `Bearer ${signed({ iat: now, nbf: now, ...claims }, key, 'key')}` }
    }
  }
}

/** The key of somebody else. */
export function foreignKey (): KeyObject {
  return rsaKeys().privateKey
}

export function rsaKeys () {
  return generateKeyPairSync('rsa', { modulusLength: 2048 })
}

/** A JSON web token that is valid for an hour, unless its claims say otherwise. */
export function signed (claims: object, key: KeyObject, kid: string): string {
  const token = [{ alg: 'RS256', typ: 'JWT', kid }, { exp: Math.floor(Date.now() / 1000) + 3600, ...claims }]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
  return `${token}.${sign('sha256', Buffer.from(token), key).toString('base64url')}`
}

function server (t: Test): FastifyInstance {
  const app = Fastify({ forceCloseConnections: true })
  t.teardown(() => app.close())
  return app
}
