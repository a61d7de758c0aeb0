import { fileName } from '../file-name.js'
import { type HttpError, cleaned, failureOf, retryAfter } from '../driver/http-errors.js'
import type { ObjectLink } from '../driver/object-driver.js'
import type { BlobClient, BlobConditions, BlobContainer } from './container.js'

const SERVER = 'Azure Blob Storage'

/** How long a request may take, at first, in milliseconds. */
const ATTEMPT_TIMEOUT = 2000
/** See https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata */
const MAX_NAME_LENGTH = 1024
/** A header may not be empty. */
const NO_MARKS = '-'
const CONTENT_TYPE = 'application/json; charset=utf-8'

/** That a blob is not what it was: https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes */
const CONFLICTS = new Set(['ConditionNotMet', 'BlobAlreadyExists', 'BlobNotFound', 'TargetConditionNotMet'])

type BlobError = HttpError & { response?: { headers?: { get(name: string): string | undefined } } }

/** Blobs of a container, one a document. */
export function blobLink (container: BlobContainer, prefix: string): ObjectLink {
  const clientOf = (key: string): BlobClient => container.getBlockBlobClient(blobName(key, prefix))
  const advice = {
    401: 'the credential is not accepted',
    403: 'the credential is not accepted, or may not read, write and delete blobs of the container',
    404: `there is no container "${container.containerName}": create it first`,
    409: 'the container or the blob is being changed, or is protected',
    413: 'the document is too large'
  }
  return {
    server: SERVER,
    maxSilence: ATTEMPT_TIMEOUT,
    attemptTimeout: ATTEMPT_TIMEOUT,
    status: () => 'open',
    ping: ({ signal }) => container.getProperties({ abortSignal: signal }),
    // A blob that is replaced while it is read is read again.
    failureOf: (error: BlobError) => CONFLICTS.has(String(error.code)) ? 'busy' : failureOf(error),
    retryAfter: (error) => retryAfter((error as BlobError).response?.headers?.get('retry-after')),
    cleaned: (error) => cleaned(SERVER, error, advice),

    async get (key, abortSignal) {
      try {
        const { readableStreamBody, etag, date, metadata } = await clientOf(key).download(0, undefined, { abortSignal })
        const text = await contentOf(readableStreamBody as NodeJS.ReadableStream)
        return { result: { text, etag: etag as string, ...besideOf(metadata) }, date: date?.getTime() }
      } catch (error) {
        const { code, response } = error as BlobError
        if (code !== 'BlobNotFound') throw error
        return { result: undefined, date: Date.parse(String(response?.headers?.get('date'))) || undefined }
      }
    },

    async put (key, { text, marks, expires }, etag, abortSignal) {
      const body = Buffer.from(text)
      const { etag: next } = await unlessChanged(clientOf(key).upload(body, body.length, {
        ...matching(etag), abortSignal, metadata: { marks: marks === '' ? NO_MARKS : marks, expires: String(expires) }, blobHTTPHeaders: { blobContentType: CONTENT_TYPE }
      })) ?? {}
      return next
    },

    remove: (key, etag, abortSignal) => removeBlob(clientOf(key), etag, abortSignal)
  }
}

/** What stands beside a blob. Where nothing is said of marks, none of it is ours. */
export function besideOf ({ marks, expires }: Record<string, string> = {}): { marks: string, expires: number } {
  return marks === undefined ? { marks: '', expires: 0 } : { marks: marks === NO_MARKS ? '' : marks, expires: Number(expires) }
}

/** @returns whether it was as it was read, and is removed */
export async function removeBlob (client: BlobClient, etag: string, abortSignal: AbortSignal): Promise<boolean> {
  return await unlessChanged(client.delete({ ...matching(etag), abortSignal, deleteSnapshots: 'include' })) !== undefined
}

/** No key reaches another container, or the blob of another key: percent-encoded as file names are. */
export function blobName (key: string, prefix: string): string {
  return prefix + fileName(key, MAX_NAME_LENGTH - prefix.length)
}

function matching (etag: string | undefined): BlobConditions {
  return { conditions: etag === undefined ? { ifNoneMatch: '*' } : { ifMatch: etag } }
}

async function unlessChanged<Result> (request: Promise<Result>): Promise<Result | undefined> {
  try {
    return await request
  } catch (error) {
    if (!CONFLICTS.has(String((error as BlobError).code))) throw error
  }
}

async function contentOf (stream: NodeJS.ReadableStream): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}
