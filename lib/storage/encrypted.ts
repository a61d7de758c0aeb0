import { KeyObject, createSecretKey } from 'node:crypto'
import { Cipher, MAX_ID_LENGTH, type SealedPlace, cannotDecrypt, isSealed } from '../document/cipher.js'
import { describeType, isObject } from '../document/describe-type.js'
import { type ChangeDocument, type Document, type StateDocument, objectOf } from '../document/document.js'
import { encodeStored, setMember } from '../document/json-value.js'
import { ObjectDocument } from '../document/object-document.js'
import { type Sealing, UnsealedDocument, sealedText } from '../document/sealed-document.js'
import { TextDocument } from '../document/text-document.js'
import { type DocumentChange, type DocumentStore, type Holds, type TurnEnd, documentStoreOf, nameOfStorage, provideDocumentStore } from './document-store.js'
import { activityName } from './foreign-holds.js'
import { assertKnownOptions, describeValue, invalidOption } from './option-checks.js'
import { type Commit, type Storage, isStorage } from './storage.js'

/** A key of AES-256: 32 bytes, or these in Base64 or hexadecimal digits. */
export type EncryptionKey = Uint8Array | KeyObject | string

/** The options of `encrypted`. */
export interface EncryptionOptions {
  /**
   * Keys by their ids, of letters, digits, `.`, `_` and `-`, 64 at most; `current` is the id of the one that encrypts. The others open
   * what was encrypted with them. A key is to encrypt no more than some 4,000,000,000 values.
   */
  keys: { current: string, [id: string]: EncryptionKey }
  /** What becomes of values that are not encrypted: `'accept'` loads them, and encrypts what changes. Default `'refuse'`. */
  plaintext?: 'accept' | 'refuse' | undefined
}

/**
 * A storage in which the values of documents, and kept replies, are encrypted, each by itself: AES-256-GCM, with the key of the document
 * and the name of the member as associated data. Keys of documents and names of members stay readable.
 *
 * @example
 * storage: encrypted(new RedisStorage(url), { keys: { current: '2026-11', '2026-11': process.env.STATE_KEY } })
 *
 * @param storage any; it is closed with this one
 * @throws FST_BOTAS_STATE_INVALID_OPTION
 */
export function encrypted (storage: Storage, options: EncryptionOptions): Storage {
  if (!isStorage(storage)) throw invalidOption('storage', 'an object with the methods read, write and delete', describeType(storage))
  const sealing = sealingOf(options)
  const { update, lease, commit, recall, watch, close } = storage
  const encryptedStorage: Storage = {
    async read (keys, call) {
      const found = await storage.read(keys, call)
      const stored = Object.entries(found).filter(([, object]) => object !== undefined)
      return Object.fromEntries(stored.map(([key, object]) => [key, objectOf(unsealed(new ObjectDocument(object, key), key, sealing))]))
    },
    write: async (changes, call) =>
      storage.write(Object.fromEntries(Object.entries(changes).map(([key, object]) => [key, sealedObject(object, undefined, key, sealing)])), call),
    delete: (keys, call) => storage.delete(keys, call),
    ...update !== undefined && {
      update: (key, change, _loaded, call) => update.call(storage, key, sealedChange(change, key, sealing), undefined, call)
    },
    ...lease !== undefined && { lease: (...call) => lease.apply(storage, call) },
    ...commit !== undefined && { commit: async (given, call) => commit.call(storage, sealedCommit(given, sealing), call) },
    ...recall !== undefined && {
      async recall (name, call) {
        const text = await recall.call(storage, name, call)
        return text === undefined ? undefined : openedReply(text, name, sealing)
      }
    },
    ...watch !== undefined && { watch: (observer) => watch.call(storage, observer) },
    ...close !== undefined && { close: () => close.call(storage) }
  }
  provideDocumentStore(encryptedStorage, () => encryptedStore(documentStoreOf(storage), sealing), nameOfStorage(storage))
  return encryptedStorage
}

function encryptedStore (store: DocumentStore, sealing: Sealing): DocumentStore {
  const { holds, forget } = store
  const unsealedAll = (keys: string[], documents: Array<Document | undefined>): Array<UnsealedDocument | undefined> =>
    documents.map((document, index) => document && unsealed(document, keys[index] as string, sealing))
  return {
    load: async (keys, call) => unsealedAll(keys, await store.load(keys, call)),
    save: (changes, call, end) => store.save(changes.map((change) => sealedDocumentChange(change, sealing)), call, end && sealedEnd(end, sealing)),
    ...forget !== undefined && { forget: (...call) => forget.apply(store, call) },
    ...holds !== undefined && { holds: encryptedHolds(holds, unsealedAll, sealing) }
  }
}

function encryptedHolds (
  holds: Holds, unsealedAll: (keys: string[], documents: Array<Document | undefined>) => Array<Document | undefined>, sealing: Sealing
): Holds {
  const { isShared, remembers, isLeftBySave } = holds
  return {
    isShared,
    remembers,
    isLeftBySave,
    async enter (hold, keys, call) {
      const entry = await holds.enter(hold, keys, call)
      if (entry.outcome === 'done') return { ...entry, reply: openedReply(entry.reply, activityName(hold), sealing) }
      return entry.outcome === 'entered' ? { ...entry, documents: unsealedAll(keys, entry.documents) } : entry
    },
    renew: (...call) => holds.renew(...call),
    leave: (...call) => holds.leave(...call)
  }
}

function unsealed (document: Document, key: string, sealing: Sealing): UnsealedDocument {
  return new UnsealedDocument(document, key, sealing)
}

function sealedDocumentChange (change: DocumentChange, sealing: Sealing): DocumentChange {
  const { key, edit } = change
  const loaded = change.loaded as UnsealedDocument | undefined
  return {
    key,
    loaded: loaded?.sealed,
    edit: UnsealedDocument.sealedEdit(edit, loaded, key, sealing),
    get isSaved () { return change.isSaved },
    set isSaved (isSaved) { change.isSaved = isSaved }
  }
}

function sealedEnd (end: TurnEnd, { cipher }: Sealing): TurnEnd {
  return end.reply === undefined ? end : { ...end, reply: cipher.seal(end.reply, replyPlace(activityName(end.hold))) }
}

function sealedCommit ({ changes, record, ...others }: Commit, sealing: Sealing): Commit {
  return {
    ...others,
    changes: changes.map(({ key, change }) => ({ key, change: sealedChange(change, key, sealing) })),
    ...record !== undefined && { record: { ...record, text: sealing.cipher.seal(record.text, replyPlace(record.name)) } }
  }
}

function sealedChange (change: ChangeDocument, key: string, sealing: Sealing): ChangeDocument {
  return (current) => {
    const document = current == null ? undefined : unsealed(new ObjectDocument(current, key), key, sealing)
    const next = change(document && objectOf(document))
    return next === undefined ? undefined : sealedObject(next, document, key, sealing)
  }
}

/** What did not change stays as it is stored. */
function sealedObject (object: unknown, stored: UnsealedDocument | undefined, key: string, { cipher }: Sealing): StateDocument {
  const plain = TextDocument.of(object, key)
  const result: StateDocument = {}
  for (const name of plain.names()) {
    const text = plain.textOf(name) as string
    const isUnchanged = stored?.has(name) === true && encodeStored(stored.valueOf(name)) === text
    setMember(result, name, isUnchanged ? stored.sealed.valueOf(name) : JSON.parse(sealedText(text, key, name, cipher)))
  }
  return result
}

function openedReply (text: string, name: string, { cipher, acceptsPlaintext }: Sealing): string {
  const place = replyPlace(name)
  if (isSealed(text)) return cipher.open(text, place)
  if (!acceptsPlaintext) throw cannotDecrypt(place, 'it is not encrypted, and the option "plaintext" is "refuse"')
  return text
}

function replyPlace (name: string): SealedPlace {
  return { kind: 'reply', key: name, name: '' }
}

const KEY_ID = new RegExp(`^[\\w.-]{1,${MAX_ID_LENGTH}}$`)
const KEY_BYTES = 32

function sealingOf (options: EncryptionOptions): Sealing {
  assertKnownOptions(options, ['keys', 'plaintext'])
  const { keys, plaintext = 'refuse' } = options
  if (plaintext !== 'accept' && plaintext !== 'refuse') throw invalidOption('plaintext', '"accept" or "refuse"', describeValue(plaintext))
  if (!isObject(keys)) throw invalidOption('keys', 'an object with "current" and a key for each id', describeType(keys))
  const { current, ...others } = keys
  const found = new Map(Object.entries(others).map(([id, key]) => [id, secretKey(id, key)]))
  if (typeof current !== 'string' || !found.has(current)) {
    throw invalidOption('keys.current', 'the id of one of the keys', typeof current === 'string' ? 'another string' : describeType(current))
  }
  return { cipher: new Cipher(found, current), acceptsPlaintext: plaintext === 'accept' }
}

/** An error says nothing of a key, nor of an id that may be one. */
function secretKey (id: string, given: unknown): KeyObject {
  if (!KEY_ID.test(id)) throw invalidOption('keys', `an object with ids of letters, digits, ".", "_" and "-", ${MAX_ID_LENGTH} at most`, 'another id')
  const bytes = bytesOf(given)
  if (bytes?.length !== KEY_BYTES) {
    throw invalidOption(`keys.${id}`, '32 bytes, or a string that has these in Base64 or hexadecimal digits',
      bytes === undefined ? describeType(given) : `${describeType(given)} of another length`)
  }
  return createSecretKey(bytes)
}

function bytesOf (given: unknown): Uint8Array | undefined {
  if (given instanceof KeyObject) return given.type === 'secret' ? given.export() : undefined
  if (given instanceof Uint8Array) return given
  if (typeof given !== 'string') return undefined
  if (/^[\da-f]{64}$/i.test(given)) return Buffer.from(given, 'hex')
  return /^[\w+/-]+=*$/.test(given) ? Buffer.from(given, 'base64') : undefined
}
