import { isObject } from './document/describe-type.js'
import { type Document, objectOf } from './document/document.js'
import { type DocumentsOptions, checkDocumentsOption } from './document-options.js'
import { FST_BOTAS_STATE_INVALID_ID } from './errors.js'
import type { BotasStateOptions } from './options.js'
import { type DocumentStore, documentStoreOf } from './storage/document-store.js'
import { describeValue, invalidOption } from './storage/option-checks.js'
import type { Storage } from './storage/storage.js'
import type { ScopeRules } from './turn/turn-documents.js'
import { withDeadline } from './waiting/deadline.js'

/** A document that would fail the turns that touch it. */
export interface FailingDocument {
  /** Its key. It contains ids. */
  key: string
  /** The code of the error, `FST_BOTAS_STATE_…`. */
  code: string
  /** What is wrong, and where. It names no value. */
  message: string
}

/** How many documents are loaded at once. */
const AT_A_TIME = 100
/** How long these may take, in milliseconds. */
const LOAD_TIMEOUT = 30_000

/**
 * A dry run before a deployment: which documents would not load with the schemas, the versions and the keys of today. Changes nothing, not
 * even the time that a document has left.
 *
 * @example
 * const failing = await checkDocuments(storage, keys, { documents })
 *
 * @param storage is not closed
 * @param keys of documents, as `conversationKey` and `userKey` make them; those that are not stored are no failures
 * @param options those of the plugin, or only its option `documents`
 * @returns those that would fail, in the order of the keys
 * @throws FST_BOTAS_STATE_INVALID_OPTION, and the error of a storage that cannot be read
 */
export async function checkDocuments (
  storage: Storage, keys: Iterable<string> | AsyncIterable<string>, options: Pick<BotasStateOptions, 'documents'> | DocumentsOptions
): Promise<FailingDocument[]> {
  if (!isObject(options)) throw invalidOption('options', 'an object', describeValue(options))
  const rules = checkDocumentsOption('documents' in options ? options.documents : options)
  const store = documentStoreOf(storage)
  const failing: FailingDocument[] = []
  for await (const some of inPortions(keys)) {
    const documents = await loaded(store, some)
    for (const [index, key] of some.entries()) failing.push(...problemOf(key, documents[index], rules))
  }
  return failing
}

/** A storage may ignore that nobody waits any more. */
function loaded (store: DocumentStore, keys: string[]): Promise<Array<Document | undefined>> {
  const controller = new AbortController()
  const call = { signal: controller.signal, timeout: LOAD_TIMEOUT, renews: false, retrying () {} }
  return withDeadline(store.load(keys, call), LOAD_TIMEOUT, () => controller.abort())
}

async function * inPortions (keys: Iterable<string> | AsyncIterable<string>): AsyncGenerator<string[]> {
  let portion: string[] = []
  for await (const key of keys) {
    portion.push(key)
    if (portion.length < AT_A_TIME) continue
    yield portion
    portion = []
  }
  if (portion.length > 0) yield portion
}

function problemOf (key: string, document: Document | undefined, rules: ScopeRules | undefined): FailingDocument[] {
  try {
    const scope = scopeOf(key)
    if (document !== undefined) objectOf(rules?.[scope]?.current(document, key) ?? document)
    return []
  } catch (error) {
    const { code, message } = error as FailingDocument
    return [{ key, code, message }]
  }
}

const SCOPES = { conversations: 'conversation', users: 'user' } as const

/** An id may hold a slash: the first collection that can be one counts. */
function scopeOf (key: string): 'conversation' | 'user' {
  const collection = key.split('/').slice(2, -1).find((part) => Object.hasOwn(SCOPES, part))
  if (collection === undefined) throw new FST_BOTAS_STATE_INVALID_ID('key', 'it is not {channelId}/{botId}/conversations/{id} or …/users/{id}')
  return SCOPES[collection as keyof typeof SCOPES]
}
