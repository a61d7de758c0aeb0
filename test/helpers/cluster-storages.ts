import { Cluster } from 'ioredis'
import type { Test } from 'tap'
import { RedisStorage, type RedisStorageOptions } from '../../lib/storage/redis/redis-storage.js'
import type { RedisCluster } from './redis-cluster.js'

/** A client of the user's. */
export function connect (t: Test, { addresses }: RedisCluster, options: ConstructorParameters<typeof Cluster>[1] = {}): Cluster {
  const client = new Cluster(addresses, options)
  t.teardown(() => client.disconnect())
  return client
}

/** A storage on a client of its own. */
export type Open = (t: Test, cluster: RedisCluster, options: RedisStorageOptions) => RedisStorage

/** How a storage on a Cluster can be opened. */
export const openers: Array<[name: string, open: Open]> = [
  ['a Cluster client', (t, cluster, options) => new RedisStorage(connect(t, cluster), options)],
  ['a Cluster client with enableAutoPipelining', (t, cluster, options) =>
    new RedisStorage(connect(t, cluster, { enableAutoPipelining: true }), options)],
  ['a URL of several nodes', (t, { url }, options) => {
    const storage = new RedisStorage(url, options)
    t.teardown(() => storage.close())
    return storage
  }]
]
