import { types } from 'node:util'
import { FST_BOTAS_STATE_INVALID_DOCUMENT, FST_BOTAS_STATE_NEWER_DOCUMENT } from '../errors.js'
import { describeThrown, describeType, isObject } from './describe-type.js'
import { type Document, type Edit, type StateDocument, objectOf } from './document.js'
import { EditedDocument } from './edited-document.js'
import { encodeValue, hasPlainPrototype, setMember } from './json-value.js'
import { isAs, snapshotOfStored } from './snapshot.js'

/**
 * From a document of one version to the next one. Must be pure and synchronous: it may be called more than once. It may change the object
 * that it is given, and return it.
 */
export type Upgrade = (document: StateDocument) => StateDocument

/** The versions of a document that the code knows. */
export interface Versions {
  /** the member that says how old a document is; one without it has version 1 */
  readonly key: string
  /** what every document becomes */
  readonly current: number
  /** by the version that they lead to, from 2 to `current` */
  readonly upgrades: ReadonlyMap<number, Upgrade>
}

/**
 * What makes a stored document one of the current version; nothing where it is.
 *
 * @param documentKey names the document in errors
 * @throws FST_BOTAS_STATE_NEWER_DOCUMENT, and FST_BOTAS_STATE_INVALID_DOCUMENT where it cannot be upgraded
 */
export function upgradeOf (stored: Document, versions: Versions, documentKey: string): Edit | undefined {
  const version = versionOf(stored, versions, documentKey)
  assertKnown(version, versions, documentKey)
  if (version === versions.current) return undefined
  let document = objectOf(stored)
  for (let next = version + 1; next <= versions.current; next++) {
    document = upgraded(document, next, versions.upgrades.get(next) as Upgrade, documentKey)
  }
  setMember(document, versions.key, versions.current)
  return { clears: false, members: differences(stored, document, documentKey) }
}

/**
 * An edit with which a document keeps its version. One of which nothing but that is left goes.
 *
 * @throws FST_BOTAS_STATE_INVALID_DOCUMENT where the edit changes the version, and FST_BOTAS_STATE_NEWER_DOCUMENT where it replaces a newer
 *   document by another one
 */
export function withVersion (edit: Edit, stored: Document | undefined, versions: Versions, documentKey: string): Edit {
  const { key, current } = versions
  const text = String(current)
  if (edit.members.has(key) && edit.members.get(key) !== text) {
    throw new FST_BOTAS_STATE_INVALID_DOCUMENT(documentKey, `would get another version: the handler changed its member "${key}", which only upgrades may`)
  }
  const document = new EditedDocument(stored, edit)
  if ([...document.names()].every((name) => name === key)) return { clears: true, members: new Map() }
  if (edit.clears && stored !== undefined) assertReplaceable(stored, versions, documentKey)
  return document.textOf(key) === text ? edit : { ...edit, members: new Map(edit.members).set(key, text) }
}

/** @throws FST_BOTAS_STATE_INVALID_DOCUMENT */
function versionOf (document: Document, { key }: Versions, documentKey: string): number {
  const version = document.has(key) ? document.valueOf(key) : 1
  if (Number.isSafeInteger(version) && (version as number) >= 1) return version as number
  throw new FST_BOTAS_STATE_INVALID_DOCUMENT(documentKey, `has a version that is no whole number from 1, its member "${key}"`)
}

function assertKnown (version: number, { current }: Versions, documentKey: string): void {
  if (version > current) throw new FST_BOTAS_STATE_NEWER_DOCUMENT(documentKey, version, current)
}

/** A document may always be removed, also a newer one; but where another one takes its place, it would go back. */
function assertReplaceable (stored: Document, versions: Versions, documentKey: string): void {
  let version: number
  try {
    version = versionOf(stored, versions, documentKey)
  } catch {
    // What cannot be read may be cleared.
    return
  }
  assertKnown(version, versions, documentKey)
}

function upgraded (document: StateDocument, version: number, upgrade: Upgrade, documentKey: string): StateDocument {
  let result: unknown
  try {
    result = upgrade(document)
    if (isObject(result) && hasPlainPrototype(result)) return thawed(result)
  } catch (error) {
    // The error's own message may quote values.
    throw cannotUpgrade(documentKey, version, `threw ${describeThrown(error)}`)
  }
  if (types.isPromise(result)) {
    result.catch(() => {})
    throw cannotUpgrade(documentKey, version, 'returned a promise: it must be synchronous')
  }
  // The members of a Map are no members of a document: it would be emptied.
  throw cannotUpgrade(documentKey, version, `returned ${isObject(result) ? 'an instance of a class' : describeType(result)} in place of the document`)
}

/**
 * The same in new containers, for an upgrade may return what is frozen, and the next one change what it is given. What comes of a getter is
 * read once, here. Other objects stay what they are.
 */
function thawed (document: StateDocument): StateDocument {
  // No recursion: a document may be nested deep, or in itself. What is added meanwhile gets its turn.
  const copies = new Map<object, object>()
  const copyOf = (value: unknown): unknown => {
    if (typeof value !== 'object' || value === null || !hasPlainPrototype(value)) return value
    const copy = copies.get(value) ?? (Array.isArray(value) ? new Array(value.length) : {})
    copies.set(value, copy)
    return copy
  }
  const copy = copyOf(document) as StateDocument
  for (const [container, copy] of copies) {
    for (const [name, value] of Object.entries(container)) setMember(copy as StateDocument, name, copyOf(value))
  }
  return copy
}

function cannotUpgrade (documentKey: string, version: number, problem: string): Error {
  return new FST_BOTAS_STATE_INVALID_DOCUMENT(documentKey, `could not be upgraded: the upgrade to version ${version} ${problem}`)
}

/** What did not change keeps its very text. */
function differences (stored: Document, document: StateDocument, documentKey: string): Edit['members'] {
  const members = new Map<string, string | undefined>()
  for (const name of stored.names()) if (!Object.hasOwn(document, name)) members.set(name, undefined)
  for (const [name, value] of Object.entries(document)) {
    if (stored.has(name) && isAs(value, snapshotOfStored(stored.valueOf(name)))) continue
    members.set(name, encoded(name, value, documentKey))
  }
  return members
}

function encoded (name: string, value: unknown, documentKey: string): string | undefined {
  try {
    return encodeValue(value, name, 'upgraded')
  } catch (error) {
    throw new FST_BOTAS_STATE_INVALID_DOCUMENT(documentKey, `could not be upgraded: ${(error as Error).message}`)
  }
}
