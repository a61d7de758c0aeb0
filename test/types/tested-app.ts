import Fastify, { type FastifyTypeProvider } from 'fastify'
import type { TestedApp } from '../../lib/testing/testing.js'

interface Provider extends FastifyTypeProvider {
  validator: this['schema']
}

/** Servers of every kind can be talked to. */
export const apps: TestedApp[] = [
  Fastify(),
  Fastify({ logger: true }),
  Fastify({ https: { key: '', cert: '' } }),
  Fastify({ http2: true }),
  Fastify({ http2: true, https: { key: '', cert: '', allowHTTP1: true } }),
  Fastify().withTypeProvider<Provider>()
]
