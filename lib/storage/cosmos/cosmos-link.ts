import { createHash } from 'node:crypto'
import { type HttpError, cleaned, failureOf, statusOf } from '../driver/http-errors.js'
import type { NewObject, ObjectLink } from '../driver/object-driver.js'
import { percentEncoded } from '../file-name.js'
import type { CosmosCall, CosmosContainer, CosmosResponse } from './container.js'

const SERVER = 'Azure Cosmos DB'

/** How long a request may take, at first, in milliseconds. */
const ATTEMPT_TIMEOUT = 2000
/** See https://learn.microsoft.com/azure/cosmos-db/concepts-limits#per-item-limits */
const MAX_ID_LENGTH = 255

/** In seconds: https://learn.microsoft.com/azure/cosmos-db/nosql/time-to-live */
const MAX_TTL = 2_147_483_647

/** Of a 404: no such container or database; the session that was asked for is not there yet. See
 * https://learn.microsoft.com/rest/api/cosmos-db/http-status-codes-for-cosmosdb */
const NO_CONTAINER = 1003
const NO_SESSION = 1002

/** Why a container cannot be used. */
class UnusableContainer extends Error {}

/** An item, as it is stored. */
interface StateItem {
  readonly text?: string
  readonly mark?: string
  readonly expires?: number
}

type CosmosError = HttpError & { substatus?: number, retryAfterInMs?: number }

/** Items of a container, one a document, with its text as it is: as an object 1.0 would become 1. */
export function cosmosLink (container: CosmosContainer): ObjectLink {
  const advice = {
    401: 'the key or token is not accepted',
    403: 'the key or token may not read, create, replace and delete items of the container',
    404: `there is no container "${container.id}", or no database: create it first`,
    413: 'the document is larger than an item may be, 2 MB'
  }
  let isUsable = false

  /** A container that is missing, or has another partition key, would look like no state at all. */
  async function assertUsable (abortSignal: AbortSignal): Promise<void> {
    if (isUsable) return
    const { resource } = await container.read({ abortSignal })
    const paths = resource?.partitionKey?.paths ?? []
    if (paths.join() !== '/id') throw new UnusableContainer(`the container "${container.id}" must have the partition key /id, it has ${paths.join() || 'none'}`)
    isUsable = true
  }

  async function create (body: { id: string } & Record<string, unknown>, abortSignal: AbortSignal): Promise<CosmosResponse | undefined> {
    await assertUsable(abortSignal)
    return unlessChanged(container.items.create(body, { abortSignal }), 409)
  }

  return {
    server: SERVER,
    maxSilence: ATTEMPT_TIMEOUT,
    attemptTimeout: ATTEMPT_TIMEOUT,
    status: () => 'open',
    ping: ({ signal }) => container.read({ abortSignal: signal }),
    failureOf: (error: CosmosError) => error.substatus === NO_SESSION ? 'busy' : failureOf(error),
    retryAfter: (error: CosmosError) => error.retryAfterInMs,
    cleaned: (error) => error instanceof UnusableContainer ? new Error(`${SERVER}: ${error.message}`) : cleaned(SERVER, error, advice),

    async get (key, abortSignal) {
      await assertUsable(abortSignal)
      const id = itemId(key)
      const { resource, statusCode, substatus, etag, headers } = await container.item(id, id).read({ abortSignal })
      // The client does not throw for a 404, whatever is not there.
      if (statusCode === 404 && (substatus === NO_CONTAINER || substatus === NO_SESSION)) throw Object.assign(new Error(), { code: statusCode, substatus })
      const date = Date.parse(String(headers.date)) || undefined
      if (statusCode === 404) return { result: undefined, date }
      // What another program stored there is no document, and not nothing either.
      const { text, mark, expires = 0 } = resource as StateItem
      const isOurs = typeof text === 'string' && typeof mark === 'string'
      return { result: isOurs ? { text, etag, marks: mark, expires } : { text: '', etag, marks: '', expires: 0 }, date }
    },

    async put (key, object, etag, abortSignal) {
      const body = itemOf(key, object)
      const response = etag === undefined
        ? await create(body, abortSignal)
        : await unlessChanged(container.item(body.id, body.id).replace(body, matching(etag, abortSignal)), 412, 404)
      return response?.etag
    },

    async remove (key, etag, abortSignal) {
      const id = itemId(key)
      return await unlessChanged(container.item(id, id).delete(matching(etag, abortSignal)), 412, 404) !== undefined
    }
  }
}

function matching (etag: string, abortSignal: AbortSignal): CosmosCall {
  return { abortSignal, accessCondition: { type: 'IfMatch', condition: etag } }
}

function itemOf (key: string, { text, marks, expires, lifetime }: NewObject): { id: string } & Record<string, unknown> {
  // The container removes it later: it counts whole seconds, from the one in which the item was changed.
  const ttl = lifetime === 0 ? {} : { expires, ttl: Math.min(Math.ceil(lifetime / 1000) + 1, MAX_TTL) }
  return { id: itemId(key), key: key.replaceAll('\0', ' '), text: text.toString(), mark: marks, ...ttl }
}

/**
 * The id of a key's item: the key encoded as file names are, with `=` in place of `%`, which gateways decode; where that is too long,
 * as much of it as fits, `==` and the SHA-256 of the key.
 */
export function itemId (key: string): string {
  const id = percentEncoded(key).replaceAll('%', '=').replace(/^\.+$/, (dots) => '=2E'.repeat(dots.length))
  if (id.length <= MAX_ID_LENGTH) return id
  const suffix = `==${createHash('sha256').update(key).digest('hex')}`
  return id.slice(0, MAX_ID_LENGTH - suffix.length).replace(/=.?$/, '') + suffix
}

async function unlessChanged<Result> (request: Promise<Result>, ...conflicts: number[]): Promise<Result | undefined> {
  try {
    return await request
  } catch (error) {
    const { substatus } = error as CosmosError
    if (!conflicts.includes(statusOf(error as CosmosError) as number) || substatus === NO_CONTAINER || substatus === NO_SESSION) throw error
  }
}
