import type { Redis } from 'ioredis'

/** Every key, with all that is stored there. */
export async function everythingIn (client: Redis): Promise<string[]> {
  return Promise.all((await client.keys('*')).map(async (key) => {
    const content = {
      string: () => client.get(key),
      hash: () => client.hgetall(key),
      zset: () => client.zrange(key, '0', '-1', 'WITHSCORES')
    }[await client.type(key) as 'string']
    return JSON.stringify([key, await content()])
  }))
}
