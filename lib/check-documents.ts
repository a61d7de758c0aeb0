import { describeType, isObject } from './document/describe-type.js'
import { type Document, objectOf } from './document/document.js'
import { ObjectDocument } from './document/object-document.js'
import { type DocumentsOptions, checkDocumentsOption } from './document-options.js'
import { FST_BOTAS_STATE_INVALID_ID, FST_BOTAS_STATE_LOAD_FAILED } from './errors.js'
import { type BotasStateOptions, assertPluginOptions } from './options.js'
import { type DocumentStore, documentStoreOf, readApart } from './storage/document-store.js'
import { look } from './storage/look.js'
import { describeValue, invalidOption } from './storage/option-checks.js'
import { type Storage, type StorageCall, isStorage } from './storage/storage.js'
import { isAboutDocument } from './turn/about-document.js'
import { scopeOf, unfitIn } from './turn/identity.js'
import type { ScopeRules } from './turn/turn-documents.js'

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
 * @throws FST_BOTAS_STATE_INVALID_OPTION
 * @throws FST_BOTAS_STATE_LOAD_FAILED where the storage cannot be read: `cause` is its error
 */
export async function checkDocuments (
  storage: Storage, keys: Iterable<string> | AsyncIterable<string>, options: BotasStateOptions | DocumentsOptions
): Promise<FailingDocument[]> {
  if (!isStorage(storage)) throw invalidOption('storage', 'a storage object, such as new RedisStorage(url) in place of a URL', describeType(storage))
  if (!isIterable(keys)) throw invalidOption('keys', 'an array, or another iterable, of keys', describeType(keys))
  const rules = rulesOf(options)
  const store = documentStoreOf(storage)
  const failing: FailingDocument[] = []
  for await (const some of inPortions(keys)) {
    const documents = await loaded(store, some.filter((key) => flawOfKey(key) === undefined))
    for (const key of some) failing.push(...problemOf(key, documents, rules))
  }
  return failing
}

function rulesOf (options: BotasStateOptions | DocumentsOptions): ScopeRules | undefined {
  if (!isObject(options)) throw invalidOption('options', 'an object', describeValue(options))
  if ('conversation' in options || 'user' in options) return checkDocumentsOption(options)
  assertPluginOptions(options)
  return checkDocumentsOption((options as BotasStateOptions).documents)
}

/** A text is one, too, of its letters. */
function isIterable (keys: unknown): boolean {
  const { [Symbol.iterator]: iterator, [Symbol.asyncIterator]: asyncIterator } = Object(keys) as Partial<Iterable<unknown> & AsyncIterable<unknown>>
  return typeof keys !== 'string' && (typeof iterator === 'function' || typeof asyncIterator === 'function')
}

/** Those that are stored, by their keys. */
async function loaded (store: DocumentStore, keys: string[]): Promise<Map<string, Document>> {
  if (keys.length === 0) return new Map()
  try {
    const documents = await look(LOAD_TIMEOUT, (call) => loadedApart(store, keys, call))
    return new Map(keys.flatMap((key, index) => documents[index] === undefined ? [] : [[key, documents[index]] as const]))
  } catch (cause) {
    throw new FST_BOTAS_STATE_LOAD_FAILED(`"${keys[0]}"${keys.length === 1 ? '' : `, and ${keys.length - 1} more`}`, { cause })
  }
}

/** What wraps a storage may fail for one of many documents: that one is loaded as a document that throws. */
function loadedApart (store: DocumentStore, keys: string[], call: StorageCall): Promise<Array<Document | undefined>> {
  return readApart<Document>(keys, (keys) => store.load(keys, call), (error, key) => {
    if (!isAboutDocument(error)) throw error
    return new ObjectDocument(error, key)
  })
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

function problemOf (key: string, documents: Map<string, Document>, rules: ScopeRules | undefined): FailingDocument[] {
  try {
    const flaw = flawOfKey(key)
    if (flaw !== undefined) throw new FST_BOTAS_STATE_INVALID_ID('key', flaw)
    const document = documents.get(key)
    if (document !== undefined) objectOf(rules?.[scopeOf(key) as keyof ScopeRules]?.current(document, key) ?? document)
    return []
  } catch (error) {
    const { code, message } = error as FailingDocument
    return [{ key: typeof key === 'string' ? key : describeType(key), code, message }]
  }
}

/** Why a key is that of no document. */
function flawOfKey (key: unknown): string | undefined {
  if (scopeOf(key) !== undefined) return unfitIn(key as string)
  return `expected a document key, {channelId}/{botId}/conversations/{id} or …/users/{id}${typeof key === 'string' ? '' : `, got ${describeType(key)}`}`
}
