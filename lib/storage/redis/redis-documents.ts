import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { TextDocument } from '../../document/text-document.js'
import { FST_BOTAS_STATE_CORRUPT_DOCUMENT } from '../../errors.js'
import { withDeadline } from '../../waiting/deadline.js'
import { KeyedQueue } from '../../waiting/keyed-queue.js'
import { settledAll } from '../../waiting/settled-all.js'
import { type Save, compareAndSet, forgottenIn, savesOf } from '../compare-and-set.js'
import {
  type DocumentChange, type DocumentStore, type Entry, type Hold, type Holds, type SaveOutcome, type TurnEnd, noteOutcome, readApart
} from '../document-store.js'
import type { Lifetime } from '../expiry.js'
import { inTurn } from '../in-turn.js'
import type { StorageCall } from '../storage.js'
import type { RedisClient } from './client.js'
import { clientPrefixOf, companionKey } from './companion-key.js'
import { type RedisConnection, connectionOf } from './connection.js'
import { isCrossSlot, isWrongType } from './errors.js'
import { type HoldKeys, enter, leave, renew } from './hold-scripts.js'
import { type SaveEnd, type SaveOptions, memberOf, saveTogether } from './save-script.js'
import type { ScriptReply } from './script.js'

/**
 * How long a lost answer can be asked for at least, in milliseconds, while no more than MAX_TOKENS processes save the document: a client may
 * send a command again by itself.
 */
const MIN_TOKEN_LIFETIME = 60_000
/** How long a turn that is saved waits for tokens to go, in milliseconds. */
const FORGET_TIMEOUT = 500

/** What `PTTL` says of a key that lives for ever. */
const NO_EXPIRY = -1

/** The documents in a Redis, each a string, and what turns hold beside them. */
export class RedisDocuments implements DocumentStore {
  readonly #client: RedisClient
  readonly #connection: RedisConnection
  readonly #prefix: string
  readonly #lifetime: Lifetime
  /** whether a command is about one slot only: on a Cluster, also behind a proxy that hides it */
  #isSharded: boolean
  /** by the documents beside which their tokens stand: what follows each other needs one token */
  readonly #saves = new KeyedQueue()
  /** names this process and this storage */
  readonly #origin = randomBytes(12).toString('base64url')
  #saveCount = 0

  /**
   * @param prefix what every key begins with
   */
  constructor (client: RedisClient, prefix: string, lifetime: Lifetime) {
    this.#client = client
    this.#connection = connectionOf(client)
    this.#prefix = prefix
    this.#lifetime = lifetime
    this.#isSharded = client.isCluster
  }

  /** One `GET` or `GETEX` each, all in one round trip. */
  load (keys: string[], call?: StorageCall): Promise<Array<TextDocument | undefined>> {
    return readApart(keys, (keys) => this.read(keys, call), ofAnotherType)
  }

  /** As `load`, but fails for a key of another type. */
  async read (keys: string[], call?: StorageCall): Promise<Array<TextDocument | undefined>> {
    const values = await this.#connection.send(() =>
      Promise.all(keys.map((key) => this.#get(this.#prefix + key, call))), call)
    return documentsOf(values, keys)
  }

  #get (key: string, call: StorageCall | undefined): Promise<Buffer | null> {
    const { seconds, isRenewedByLoads } = this.#lifetime
    return isRenewedByLoads && call?.renews !== false ? this.#client.getexBuffer(key, 'EX', seconds) : this.#client.getBuffer(key)
  }

  async timeLeft (key: string, call: StorageCall): Promise<number> {
    const milliseconds = await this.#connection.send(() => this.#client.pttl(this.#prefix + key), call)
    return milliseconds === NO_EXPIRY ? Infinity : Math.max(milliseconds, 0)
  }

  async save (changes: DocumentChange[], call: StorageCall, end?: TurnEnd): Promise<SaveOutcome> {
    const outcome = await this.#saveAll(changes, call, end)
    const forgotten = changes.filter(({ forgets, isSaved }) => forgets && isSaved)
    if (forgotten.length > 0) await this.#forgetTokens(forgotten.map(({ key }) => key), call.signal)
    return outcome
  }

  async #saveAll (changes: DocumentChange[], call: StorageCall, end: TurnEnd | undefined): Promise<SaveOutcome> {
    if (!this.#isSharded) {
      try {
        return await this.#saveChanges(changes, call, end)
      } catch (error) {
        if (!isCrossSlot(error as Error)) throw error
        this.#isSharded = true
      }
    }
    return this.#saveApart(changes, call, end)
  }

  /** Saves documents in one command: all or none, see `compareAndSet`. */
  replace (saves: Save[], call: StorageCall | undefined, end?: SaveEnd): Promise<SaveOutcome> {
    const beside = end?.of.hold.key ?? (saves[0] as Save).key
    return inTurn(this.#saves, [beside], call, () => this.#replaceNow(saves, call, this.#optionsOf(beside, call, end, forgottenIn(saves))))
  }

  #optionsOf (beside: string, call: StorageCall | undefined, end: SaveEnd | undefined, forgotten: string[]): SaveOptions {
    const clientPrefix = clientPrefixOf(this.#client)
    return {
      token: { key: this.#companionKey('saved', beside), origin: this.#origin, number: this.#saveCount++ },
      tokenLifetime: Math.ceil(Math.max(call?.timeout ?? 0, MIN_TOKEN_LIFETIME)),
      ttl: this.#lifetime.seconds,
      end,
      forgotten: forgotten.map((key) => ({ index: clientPrefix + this.#companionKey('marks', key), beginning: clientPrefix + this.#markKey(key, '') }))
    }
  }

  #replaceNow (saves: Save[], call: StorageCall | undefined, options: SaveOptions): Promise<SaveOutcome> {
    const keys = saves.map(({ key }) => key)
    return compareAndSet<TextDocument | undefined, SaveOutcome>(saves, saves.map(({ loaded }) => loaded), {
      documentOf: (stored) => stored,
      load: () => this.load(keys, call),
      set: async (replacements) => {
        const outcome = await this.#connection.send(() => saveTogether(this.#client, replacements.map(({ key, stored, next }) =>
          ({ key: this.#prefix + key, stored, next })), options), call)
        return typeof outcome === 'string' ? { outcome } : { stored: documentsOf(outcome, keys) }
      }
    }, call)
  }

  /**
   * Once a save is known to be done, its token names a document that is gone. Those of other processes stay for their time: one of them may
   * wait for a lost answer, and what is gone is not to come back. So does this one where a copy of an earlier save may still be under
   * way, on a connection that broke.
   *
   * Never fails, and does not outlast the caller: all is saved, and tokens end by themselves.
   */
  async #forgetTokens (keys: string[], signal: AbortSignal): Promise<void> {
    const gone = settledAll(keys.map((key) => inTurn(this.#saves, [key], undefined, () => this.#forgetToken(key))))
    await Promise.race([withDeadline(gone, FORGET_TIMEOUT), once(signal, 'abort')]).catch(() => {})
  }

  async #forgetToken (key: string): Promise<void> {
    if (this.#connection.brokeWithin(MIN_TOKEN_LIFETIME)) return
    await this.#connection.send(() => this.#client.hdel(this.#companionKey('saved', key), this.#origin))
  }

  async #saveChanges (changes: DocumentChange[], call: StorageCall, end?: TurnEnd): Promise<SaveOutcome> {
    return noteOutcome(changes, await this.replace(savesOf(changes), call, end && {
      of: end, keys: this.#keysOf(end.hold, end.reply !== undefined), marks: this.#companionKey('marks', end.hold.key)
    }))
  }

  /** The document beside which the turn holds something comes last: then all is saved, and all is let go. */
  async #saveApart (changes: DocumentChange[], call: StorageCall, end: TurnEnd | undefined): Promise<SaveOutcome> {
    const last = changes.filter(({ key }) => end === undefined ? key === changes[0]?.key : key === end.hold.key)
    const others = changes.filter((change) => !last.includes(change))
    if (others.length > 0 && end !== undefined && !await this.#beginSaving(end.hold, call)) return 'replaced'
    // One that another attempt of this turn has saved is found by its mark, and is not saved again.
    for (const change of others) await this.#saveChanges([change], call, end && markOnly(end, change.key))
    return this.#saveChanges(last, call, end)
  }

  /** From now on a later turn waits until this one is saved, instead of replacing it. */
  async #beginSaving (hold: Hold, call: StorageCall): Promise<boolean> {
    if (hold.place?.isReplaceable !== true) return true
    return this.holds.renew({ ...hold, place: { ...hold.place, isReplaceable: false } }, call)
  }

  readonly holds: Holds = {
    isShared: true,
    remembers: true,
    isLeftBySave: true,
    enter: (hold, keys, call) => this.#enter(hold, keys, call),
    renew: (hold, call) => this.#connection.send(() => renew(this.#client, hold, this.#keysOf(hold)), call),
    leave: (hold, call) => this.#connection.send(() => leave(this.#client, hold, this.#keysOf(hold)), call)
  }

  async #enter (hold: Hold, keys: string[], call: StorageCall): Promise<Entry> {
    const inSlot = this.#isSharded ? keys.filter((key) => key === hold.key) : keys
    let reply: [outcome: string, ...rest: ScriptReply[]]
    try {
      reply = await this.#connection.send(() =>
        enter(this.#client, hold, this.#keysOf(hold), inSlot.map((key) => this.#prefix + key), this.#lifetime), call)
    } catch (error) {
      if (this.#isSharded || !isCrossSlot(error as Error)) throw error
      this.#isSharded = true
      return this.#enter(hold, keys, call)
    }
    const [outcome, ...rest] = reply
    if (outcome === 'done') return { outcome, reply: String(rest[0]) }
    if (outcome !== 'entered') return { outcome } as Entry
    const found = new Map(inSlot.map((key, index) => [key, documentOf(rest[index], key)]))
    const elsewhere = keys.filter((key) => !inSlot.includes(key))
    for (const [index, document] of (await this.load(elsewhere, call)).entries()) found.set(elsewhere[index] as string, document)
    return { outcome, documents: keys.map((key) => found.get(key)) }
  }

  #keysOf ({ key, place, activity }: Hold, isMarked = true): HoldKeys {
    return {
      mark: activity === undefined || !isMarked ? undefined : this.#markKey(key, memberOf(activity.id)),
      place: place === undefined ? undefined : this.#companionKey('place', key)
    }
  }

  #markKey (key: string, member: string): string {
    return this.#companionKey('mark', key, `:${member}`)
  }

  #companionKey (kind: string, documentKey: string, rest = ''): string {
    return companionKey(kind, this.#prefix, documentKey, rest, clientPrefixOf(this.#client))
  }
}

/** A document that lies elsewhere remembers for itself that the activity was handled. */
function markOnly ({ hold, reply }: TurnEnd, key: string): TurnEnd | undefined {
  if (reply === undefined) return undefined
  const activity = hold.activity as NonNullable<Hold['activity']>
  return { hold: { ...hold, key, place: undefined, activity: { ...activity, id: `${hold.key}\n${activity.id}` } }, reply: '', leaves: false }
}

function documentsOf (contents: ScriptReply[], keys: string[]): Array<TextDocument | undefined> {
  return keys.map((key, index) => documentOf(contents[index], key))
}

function documentOf (content: ScriptReply | undefined, key: string): TextDocument | undefined {
  if (content == null) return undefined
  return Buffer.isBuffer(content) ? TextDocument.stored(content, key) : notAString(key)
}

/** A key of another type than a string is a corrupt document. */
function ofAnotherType (error: unknown, key: string): TextDocument {
  if (!isWrongType(error as Error)) throw error
  return notAString(key)
}

function notAString (key: string): TextDocument {
  return TextDocument.stored(new FST_BOTAS_STATE_CORRUPT_DOCUMENT(key, 'not a string of Redis'), key)
}
