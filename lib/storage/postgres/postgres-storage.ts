import { DriverStorage } from '../driver/driver-storage.js'
import { EXPIRY_OPTIONS, type Expiry, lifetimeOf, pruneRegularly } from '../expiry.js'
import { assertKnownOptions } from '../option-checks.js'
import { type OwnPool, type PostgresPool, assertPool, openPool, surviveDeaths } from './pool.js'
import { PostgresDriver } from './postgres-driver.js'
import { tableOf } from './table.js'

export type { PostgresClient, PostgresPool } from './pool.js'

/** The options of `PostgresStorage`. */
export interface PostgresStorageOptions extends Expiry {
  /** The table, with or without a schema, such as `bot.state`; created where it is missing. Default `botas_state`. */
  table?: string | undefined
}

/** How often rows are removed whose time has passed, where documents have no `ttl`, in seconds. */
const PRUNE_INTERVAL = 3600

/** State in PostgreSQL, for any number of processes: a row a document, with its exact text. The documents of a turn are saved together. */
export class PostgresStorage extends DriverStorage {
  readonly #own: OwnPool | undefined
  readonly #driver: PostgresDriver
  readonly #pruning: NodeJS.Timeout
  #current: Promise<void> | undefined
  #closed = false

  /**
   * @param connection a URL, `postgres://user:password@host:5432/database`; or a `Pool` of pg, which the caller closes. With a URL the
   *   first statement connects.
   * @param options `table`, by default `botas_state`; `ttl`, in seconds, by default for ever, and `renew`
   * @throws FST_BOTAS_STATE_INVALID_OPTION where one of them is wrong, or for a URL without pg installed
   */
  constructor (connection: string | PostgresPool, options: PostgresStorageOptions = {}) {
    assertKnownOptions(options, ['table', ...EXPIRY_OPTIONS])
    const lifetime = lifetimeOf(options)
    const table = tableOf(options.table ?? 'botas_state')
    const own = typeof connection === 'string' ? openPool(connection) : undefined
    const pool = own?.pool ?? connection as PostgresPool
    assertPool(pool)
    surviveDeaths(pool)
    const driver = new PostgresDriver(pool, table)
    super(driver, lifetime)
    this.#own = own
    this.#driver = driver
    this.#pruning = pruneRegularly(() => this.#pruneAlone(), lifetime.seconds || PRUNE_INTERVAL)
  }

  /**
   * Removes the rows whose time has passed. Runs by itself now and then.
   *
   * @throws an error that says why Postgres did not do it
   */
  async prune (): Promise<void> {
    while (!this.#closed && await this.sweep((patience) => this.#driver.prune(patience)));
  }

  /** Where one takes longer than its interval, no other one is begun. */
  #pruneAlone (): void {
    this.#current ??= this.prune().catch(() => {}).finally(() => { this.#current = undefined })
  }

  /** Closes the pool if the storage made it, and gives up a `prune` that is under way. */
  async close (): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    clearInterval(this.#pruning)
    this.endSweeps()
    if (this.#own === undefined) return
    this.stop()
    await this.#own.close()
  }
}
