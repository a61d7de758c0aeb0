import type { Subject } from '../document/cipher.js'
import { DecryptedDocument, type Encryption, decryptedText, encryptedEdit, encryptedText } from '../document/decrypted-document.js'
import { describeType } from '../document/describe-type.js'
import { type ChangeDocument, type Document, type StateDocument, objectOf } from '../document/document.js'
import { encodeStored, setMember } from '../document/json-value.js'
import { ObjectDocument } from '../document/object-document.js'
import { TextDocument } from '../document/text-document.js'
import { type DocumentChange, type DocumentStore, type Holds, type TurnEnd, documentStoreOf, enteredBy, nameOfStorage, provideDocumentStore } from './document-store.js'
import { type EncryptionOptions, encryptionOf } from './encryption-options.js'
import { activityName } from './foreign-holds.js'
import { invalidOption } from './option-checks.js'
import { type Commit, type Storage, isStorage } from './storage.js'

/** Those that are encrypted already. */
const encryptedStorages = new WeakSet<Storage>()

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
  if (!isStorage(storage)) throw invalidOption('storage', 'a storage object, such as new RedisStorage(url) in place of a URL', describeType(storage))
  if (encryptedStorages.has(storage)) throw invalidOption('storage', 'a storage that is not encrypted', 'one that is')
  const encryption = encryptionOf(options)
  const { update, lease, commit, recall, watch, close } = storage
  const encryptedStorage: Storage = {
    async read (keys, call) {
      const found = await storage.read(keys, call)
      const stored = Object.entries(found).filter(([, object]) => object !== undefined)
      return Object.fromEntries(stored.map(([key, object]) => [key, objectOf(new DecryptedDocument(new ObjectDocument(object, key), key, encryption))]))
    },
    write: async (changes, call) =>
      storage.write(Object.fromEntries(Object.entries(changes).map(([key, object]) => [key, encryptedObject(object, undefined, key, encryption)])), call),
    delete: (keys, call) => storage.delete(keys, call),
    ...update !== undefined && {
      update: (key, change, _loaded, call) => update.call(storage, key, encryptedChange(change, key, encryption), undefined, call)
    },
    ...lease !== undefined && { lease: (...call) => lease.apply(storage, call) },
    ...commit !== undefined && { commit: async (given, call) => commit.call(storage, encryptedCommit(given, encryption), call) },
    ...recall !== undefined && {
      async recall (name, call) {
        const text = await recall.call(storage, name, call)
        return text === undefined ? undefined : decryptedReply(text, name, encryption)
      }
    },
    ...watch !== undefined && { watch: (observer) => watch.call(storage, observer) },
    ...close !== undefined && { close: () => close.call(storage) }
  }
  provideDocumentStore(encryptedStorage, () => encryptedStore(documentStoreOf(storage), encryption), nameOfStorage(storage))
  encryptedStorages.add(encryptedStorage)
  return encryptedStorage
}

function encryptedStore (store: DocumentStore, encryption: Encryption): DocumentStore {
  const { holds, timeLeft } = store
  const decryptedAll = (keys: string[], documents: Array<Document | undefined>): Array<DecryptedDocument | undefined> =>
    documents.map((document, index) => document && new DecryptedDocument(document, keys[index] as string, encryption))
  return {
    load: async (keys, call) => decryptedAll(keys, await store.load(keys, call)),
    async save (changes, call, end) {
      const encrypted = changes.map((change) => encryptedDocumentChange(change, encryption))
      try {
        return await store.save(encrypted, call, end && encryptedEnd(end, encryption))
      } finally {
        for (const [index, change] of changes.entries()) change.isSaved = encrypted[index]?.isSaved === true
      }
    },
    ...timeLeft !== undefined && { timeLeft: (key, call) => timeLeft.call(store, key, call) },
    ...holds !== undefined && { holds: encryptedHolds(holds, decryptedAll, encryption) }
  }
}

function encryptedHolds (
  holds: Holds, decryptedAll: (keys: string[], documents: Array<Document | undefined>) => Array<Document | undefined>, encryption: Encryption
): Holds {
  return enteredBy(holds, async (hold, keys, call) => {
    const entry = await holds.enter(hold, keys, call)
    if (entry.outcome === 'done') return { ...entry, reply: decryptedReply(entry.reply, activityName(hold), encryption) }
    return entry.outcome === 'entered' ? { ...entry, documents: decryptedAll(keys, entry.documents) } : entry
  })
}

function encryptedDocumentChange (change: DocumentChange, encryption: Encryption): DocumentChange {
  const loaded = change.loaded as DecryptedDocument | undefined
  return { ...change, loaded: loaded?.encrypted, edit: encryptedEdit(change.edit, loaded, change.key, encryption) }
}

function encryptedEnd (end: TurnEnd, encryption: Encryption): TurnEnd {
  return end.reply === undefined ? end : { ...end, reply: encryptedReply(end.reply, activityName(end.hold), encryption) }
}

function encryptedCommit ({ changes, record, ...others }: Commit, encryption: Encryption): Commit {
  return {
    ...others,
    changes: changes.map(({ key, change }) => ({ key, change: encryptedChange(change, key, encryption) })),
    ...record !== undefined && { record: { ...record, text: encryptedReply(record.text, record.name, encryption) } }
  }
}

function encryptedChange (change: ChangeDocument, key: string, encryption: Encryption): ChangeDocument {
  return (current) => {
    const document = current == null ? undefined : new DecryptedDocument(new ObjectDocument(current, key), key, encryption)
    const next = change(document && objectOf(document))
    return next === undefined ? undefined : encryptedObject(next, document, key, encryption)
  }
}

/** What did not change stays as it is stored, unless it is to be encrypted with another key. */
function encryptedObject (object: unknown, stored: DecryptedDocument | undefined, key: string, { cipher }: Encryption): StateDocument {
  const plain = TextDocument.of(object, key)
  const result: StateDocument = {}
  for (const name of plain.names()) {
    const text = plain.textOf(name) as string
    const value = stored?.encrypted.valueOf(name)
    const isLeft = stored?.has(name) === true && cipher.isCurrent(value) && encodeStored(stored.valueOf(name)) === text
    setMember(result, name, isLeft ? value : JSON.parse(encryptedText(text, key, name, cipher)))
  }
  return result
}

function encryptedReply (text: string, name: string, { cipher }: Encryption): string {
  return cipher.encrypts(text) ? cipher.encrypt(text, replySubject(name)) : text
}

function decryptedReply (text: string, name: string, encryption: Encryption): string {
  return decryptedText(text, replySubject(name), encryption) ?? text
}

function replySubject (name: string): Subject {
  return { kind: 'reply', key: name, name: '' }
}
