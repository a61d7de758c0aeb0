import * as errors from './errors.js'

export { botasState, botasState as default, type BotasState } from './plugin.js'
export type { BotasStateOptions, ConcurrencyOptions, ConcurrencyStrategy, OnceOptions } from './options.js'
export { type FailingDocument, checkDocuments } from './check-documents.js'
export type { DocumentOptions, DocumentsOptions, VersionOptions } from './document-options.js'
export type { ConversationState, TempState, TurnState, UserState } from './state/turn-state.js'
export type { StateScope } from './state/state-scope.js'
export { activityId, activityIdentity } from './fastify/activity.js'
export { type TurnIdentity, conversationKey, userKey } from './turn/identity.js'
export type { ChangeDocument, StateDocument } from './document/document.js'
export type { Upgrade } from './document/versions.js'
export type { BotasStateStats, PlaceEvent, StateEvent } from './turn/telemetry.js'
export type { Commit, CommitOutcome, OutageObserver, Storage, StorageCall } from './storage/storage.js'
export { MemoryStorage, type MemoryStorageOptions } from './storage/memory/memory-storage.js'
export { FileStorage, type FileStorageOptions } from './storage/file/file-storage.js'
export { encrypted } from './storage/encrypted.js'
export type { EncryptionKey, EncryptionKeys, EncryptionOptions } from './storage/encryption-options.js'
/**
 * Every error of this plugin by its code, for `error instanceof errorCodes.FST_BOTAS_STATE_…`, in the manner of
 * Fastify's own `errorCodes`. Each instance has `code`, `statusCode` and, where another error is behind it, `cause`.
 */
export const errorCodes = errors
