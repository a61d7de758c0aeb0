import { types } from 'node:util'
import type { StandardSchemaV1 } from '@standard-schema/spec'
import { isObject } from './document/describe-type.js'
import { DocumentRules } from './document/document-rules.js'
import { hasPlainPrototype } from './document/json-value.js'
import { assertSynchronous } from './document/schema.js'
import type { Upgrade, Versions } from './document/versions.js'
import { assertKnownOptions, describeValue, invalidOption } from './storage/option-checks.js'
import type { ScopeRules } from './turn/turn-documents.js'

/** The option `documents`. */
export interface DocumentsOptions {
  /** The documents of conversations. Default: anything. */
  conversation?: DocumentOptions | undefined
  /** The documents of users. Default: anything. */
  user?: DocumentOptions | undefined
}

/** What the documents of one scope have to be like. */
export interface DocumentOptions {
  /**
   * A synchronous Standard Schema (https://standardschema.dev): zod, valibot, arktype. A document is checked when a turn first touches
   * it, and before it is saved. It stays as it is: defaults and transforms of the schema are not applied. Default: no check.
   */
  schema?: StandardSchemaV1 | undefined
  /** How old documents become new ones. Default: documents have no version. */
  version?: VersionOptions | undefined
}

/** The versions of the documents of one scope. */
export interface VersionOptions {
  /** The member that says how old a document is; one without it has version 1. */
  key: string
  /** By the version that each leads to, from 2 on, without a gap. Default: none, all documents have version 1. */
  upgrades?: Readonly<Record<number, Upgrade>> | undefined
}

/**
 * Checks the option `documents`.
 *
 * @throws FST_BOTAS_STATE_INVALID_OPTION, also for a schema that is known to be asynchronous
 */
export function checkDocumentsOption (given: unknown): ScopeRules | undefined {
  if (given === undefined) return undefined
  if (!isObject(given)) throw invalidOption('documents', 'an object', describeValue(given))
  assertKnownOptions(given, ['conversation', 'user'], [], 'documents.')
  return { conversation: rulesOf(given.conversation, 'documents.conversation'), user: rulesOf(given.user, 'documents.user') }
}

function rulesOf (given: unknown, option: string): DocumentRules | undefined {
  if (given === undefined) return undefined
  if (!isObject(given)) throw invalidOption(option, 'an object', describeValue(given))
  assertKnownOptions(given, ['schema', 'version'], [], `${option}.`)
  return new DocumentRules(schemaOf(given.schema, `${option}.schema`), versionsOf(given.version, `${option}.version`))
}

function schemaOf (given: unknown, option: string): StandardSchemaV1 | undefined {
  if (given === undefined) return undefined
  // Some schemas are functions.
  const { '~standard': standard } = Object(given) as { '~standard'?: { validate?: unknown } }
  if (typeof standard?.validate !== 'function') {
    throw invalidOption(option, 'a Standard Schema, such as one of zod, valibot or arktype (https://standardschema.dev)', describeValue(given))
  }
  assertSynchronous(given as StandardSchemaV1, option)
  return given as StandardSchemaV1
}

function versionsOf (given: unknown, option: string): Versions | undefined {
  if (given === undefined) return undefined
  if (!isObject(given)) throw invalidOption(option, 'an object', describeValue(given))
  assertKnownOptions(given, ['key', 'upgrades'], [], `${option}.`)
  const { key, upgrades = {} } = given
  if (typeof key !== 'string' || key === '') throw invalidOption(`${option}.key`, 'the name of a member', describeValue(key))
  assertPlainObject(upgrades, `${option}.upgrades`)
  if (Object.hasOwn(upgrades, 1)) throw invalidOption(`${option}.upgrades`, WITHOUT_GAP, 'one for version 1')
  const current = Object.keys(upgrades).length + 1
  const steps = new Map<number, Upgrade>()
  for (let version = 2; version <= current; version++) {
    if (!Object.hasOwn(upgrades, version)) throw invalidOption(`${option}.upgrades`, WITHOUT_GAP, `none for version ${version}`)
    steps.set(version, checkedUpgrade(upgrades[version], `${option}.upgrades.${version}`))
  }
  return { key, current, upgrades: steps }
}

const WITHOUT_GAP = 'one for each version from 2 on, without a gap'

/** The entries of a Map are no members: it would be taken for no upgrades at all. */
function assertPlainObject (value: unknown, option: string): asserts value is Record<string, unknown> {
  if (!isObject(value)) throw invalidOption(option, 'an object', describeValue(value))
  if (!hasPlainPrototype(value)) throw invalidOption(option, 'a plain object', 'an instance of a class')
}

function checkedUpgrade (upgrade: unknown, option: string): Upgrade {
  if (typeof upgrade !== 'function') throw invalidOption(option, 'a function', describeValue(upgrade))
  if (types.isAsyncFunction(upgrade)) throw invalidOption(option, 'a synchronous function', 'an async one')
  return upgrade as Upgrade
}
